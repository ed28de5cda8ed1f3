-- Where a sequence stands: the value that came last, or for one that was never used the one before its
-- start. NULL where this role may not look: pg_sequences says so for "never used" as well.
SELECT CASE WHEN NOT pg_catalog.has_sequence_privilege(c.oid, 'USAGE, SELECT') THEN NULL
            ELSE coalesce(s.last_value, s.start_value - s.increment_by) END,
       s.increment_by, s.cache_size, s.schemaname::text, s.sequencename::text,
       pg_catalog.pg_has_role(c.relowner, 'USAGE')
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_sequences AS s ON s.schemaname = n.nspname AND s.sequencename = c.relname
WHERE c.oid = %(oid)s::oid
