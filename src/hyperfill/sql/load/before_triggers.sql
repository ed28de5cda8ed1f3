-- Triggers of a user that see rows before they are inserted, and may drop them: BEFORE (2), for each ROW (1), INSERT (4).
SELECT t.tgname::text FROM pg_catalog.pg_trigger AS t
WHERE t.tgrelid = %(oid)s::oid AND NOT t.tgisinternal AND t.tgenabled <> 'D' AND (t.tgtype & 7) = 7
  AND t.tgname NOT IN ('ts_insert_blocker', 'ts_cagg_invalidation_trigger')
ORDER BY t.tgname
