-- Transactions older than the completion point: what they write below it is not committed yet, so a
-- window would miss it. Others' sessions are only visible to a role with pg_read_all_stats.
SELECT a.pid, coalesce(nullif(a.application_name, ''), a.usename::text, 'unknown'),
       extract(epoch FROM now() - a.xact_start)::float8
FROM pg_catalog.pg_stat_activity AS a
WHERE a.datname = pg_catalog.current_database() AND a.backend_type = 'client backend'
  AND a.pid <> pg_catalog.pg_backend_pid() AND a.application_name NOT LIKE 'hyperfill%%'
  AND a.xact_start < %(moment)s::text::timestamptz
UNION ALL
SELECT NULL, 'prepared transaction ' || gid, extract(epoch FROM now() - prepared)::float8
FROM pg_catalog.pg_prepared_xacts
WHERE database = pg_catalog.current_database() AND prepared < %(moment)s::text::timestamptz
ORDER BY 3 DESC
LIMIT 20
