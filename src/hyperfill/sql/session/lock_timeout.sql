-- Give way before the server looks for deadlocks: otherwise the application may be its victim.
SELECT pg_catalog.set_config('lock_timeout', least(%s::bigint, s.setting::bigint * 7 / 10)::text, false)
FROM pg_catalog.pg_settings AS s WHERE s.name = 'deadlock_timeout'
