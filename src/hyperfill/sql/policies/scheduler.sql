-- The scheduler of this database; to a role that may not see its state that column is NULL.
SELECT pg_catalog.count(*), pg_catalog.count(*) FILTER (WHERE state = 'idle'),
       pg_catalog.count(*) FILTER (WHERE state IS NULL)
FROM pg_catalog.pg_stat_activity
WHERE datname = pg_catalog.current_database() AND application_name = 'TimescaleDB Background Worker Scheduler'
