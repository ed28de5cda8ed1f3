-- Where a sequence stands: its last value (null: never used), increment, cache; and whether we own it.
SELECT s.last_value, s.increment_by, s.cache_size, s.schemaname::text, s.sequencename::text,
       pg_catalog.pg_has_role(c.relowner, 'USAGE')
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_sequences AS s ON s.schemaname = n.nspname AND s.sequencename = c.relname
WHERE c.oid = %(oid)s::oid
