-- Chunks that were tiered to object storage: the views hide them, inheritance does not.
SELECT n.nspname::text, c.relname::text
FROM pg_catalog.pg_inherits AS i
JOIN pg_catalog.pg_class AS c ON c.oid = i.inhrelid
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE i.inhparent = %(oid)s::bigint::oid AND c.relkind = 'f'
ORDER BY 1, 2
