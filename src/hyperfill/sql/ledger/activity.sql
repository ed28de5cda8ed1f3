-- Who works on which window right now, on any machine: sessions name their window in application_name,
-- and the server counts the bytes of a COPY (of a hypertable the rows stay 0).
SELECT pg_catalog.split_part(a.application_name, '/', 2)::bigint AS backfill,
       pg_catalog.split_part(a.application_name, '/', 3)::int AS "window",
       a.pid,
       extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start)::float8 AS age,
       coalesce(p.bytes_processed, 0)::bigint AS bytes,
       p.pid IS NOT NULL AS copying,
       coalesce(a.wait_event_type = 'Lock', false) AS blocked,
       coalesce(pg_catalog.host(a.client_addr), 'local') AS client
FROM pg_catalog.pg_stat_activity AS a
LEFT JOIN pg_catalog.pg_stat_progress_copy AS p ON p.pid = a.pid AND p.command = 'COPY FROM'
WHERE a.application_name ~ '^hyperfill/[0-9]{1,18}/[0-9]{1,9}$'
  AND a.datname = pg_catalog.current_database()
  AND a.xact_start IS NOT NULL
ORDER BY a.pid
