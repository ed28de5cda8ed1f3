-- What `ledger/backfills` leaves out of a backfill, and what its hypertable is called now (NULL: it is gone).
SELECT b.planned_by, b.client, b.versions, n.nspname::text, c.relname::text
FROM hyperfill.backfills AS b
LEFT JOIN pg_catalog.pg_class AS c ON c.oid = b.hypertable_oid
LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE b.id = %s
