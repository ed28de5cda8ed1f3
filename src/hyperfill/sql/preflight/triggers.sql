-- Triggers that a user put on the hypertable; TimescaleDB's own are left out.
SELECT t.tgname::text, (t.tgtype & 1) = 1 AS for_each_row,
       -- ENABLE ALWAYS and ENABLE REPLICA fire under session_replication_role = replica as well.
       t.tgenabled IN ('A', 'R') AS unstoppable
FROM pg_catalog.pg_trigger AS t
WHERE t.tgrelid = %(oid)s::oid AND NOT t.tgisinternal AND t.tgenabled <> 'D'
  AND t.tgname NOT IN ('ts_insert_blocker', 'ts_cagg_invalidation_trigger')
ORDER BY t.tgname
