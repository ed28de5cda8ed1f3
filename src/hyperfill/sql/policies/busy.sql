-- Jobs that run, or have started without a status yet. A worker shows its job's name as backend_type at once and as
-- application_name after its first transaction. A cancelled job can keep last_finish = -infinity for good: so only
-- a start of the last seconds counts without a process.
SELECT j.id, j.application_name::text, a.pid
FROM {job_table} AS j
LEFT JOIN _timescaledb_internal.bgw_job_stat AS s ON s.job_id = j.id
LEFT JOIN pg_catalog.pg_stat_activity AS a
       ON a.datname = pg_catalog.current_database() AND a.pid <> pg_catalog.pg_backend_pid()
      AND j.application_name::text IN (a.application_name, a.backend_type)
WHERE j.id = ANY (%(ids)s::int[])
  AND (a.pid IS NOT NULL
       OR s.last_finish = '-infinity' AND s.last_start > pg_catalog.clock_timestamp() - interval '5 s')
ORDER BY j.id
