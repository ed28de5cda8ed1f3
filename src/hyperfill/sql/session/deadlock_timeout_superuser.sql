-- The same before PostgreSQL 15, where only a superuser may.
SELECT pg_catalog.set_config('deadlock_timeout', greatest(1, s.setting::bigint / 10)::text, false)
FROM pg_catalog.pg_settings AS s
WHERE s.name = 'deadlock_timeout' AND pg_catalog.current_setting('is_superuser') = 'on'
