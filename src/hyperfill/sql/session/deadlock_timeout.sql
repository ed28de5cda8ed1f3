-- Look for a deadlock soon, where this role may say so: whoever finds one is its victim. See session.py.
SELECT pg_catalog.set_config('deadlock_timeout', greatest(1, s.setting::bigint / 10)::text, false)
FROM pg_catalog.pg_settings AS s
WHERE s.name = 'deadlock_timeout' AND pg_catalog.has_parameter_privilege('deadlock_timeout', 'SET')
