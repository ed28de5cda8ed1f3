-- Who holds one of our advisory locks: 1752196710 is that of a hypertable (0: of the making of the ledger),
-- 1752196711 that of a backfill that is being run. pg_locks has both halves of the key without a sign.
SELECT l.pid, coalesce(a.application_name, ''), coalesce(a.usename::text, '')
FROM pg_catalog.pg_locks AS l
LEFT JOIN pg_catalog.pg_stat_activity AS a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.granted AND l.pid <> pg_catalog.pg_backend_pid()
  AND l.database = (SELECT d.oid FROM pg_catalog.pg_database AS d WHERE d.datname = pg_catalog.current_database())
  AND (l.classid::bigint = 1752196710 AND l.objid::bigint IN (0, (%(hypertable)s::bigint + 2147483648) & 4294967295)
       OR l.classid::bigint = 1752196711 AND l.objid::bigint = (%(backfill)s::bigint & 2147483647))
ORDER BY l.pid
