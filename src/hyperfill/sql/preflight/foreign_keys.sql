-- Foreign keys of the hypertable, and of other tables that point to it.
SELECT c.conname::text, c.conrelid = %(oid)s::oid AS ours, f.relname::text, n.nspname::text,
       c.confdeltype::text
FROM pg_catalog.pg_constraint AS c
JOIN pg_catalog.pg_class AS f ON f.oid = CASE WHEN c.conrelid = %(oid)s::oid THEN c.confrelid ELSE c.conrelid END
JOIN pg_catalog.pg_namespace AS n ON n.oid = f.relnamespace
WHERE c.contype = 'f' AND (c.conrelid = %(oid)s::oid OR c.confrelid = %(oid)s::oid)
  -- Each chunk repeats the keys of its hypertable.
  AND n.nspname NOT LIKE '\_timescaledb\_%%'
ORDER BY c.conname
