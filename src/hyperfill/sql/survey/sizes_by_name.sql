-- Bytes of the tables that a plan reads; a plan names them without their schema.
SELECT pg_catalog.pg_relation_size(oid) FROM pg_catalog.pg_class
WHERE relname::text = ANY (%s) AND relkind IN ('r', 'm')
