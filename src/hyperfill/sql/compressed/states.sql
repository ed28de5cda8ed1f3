-- The status of chunks by oid: bits 1 compressed, 2 unordered, 4 frozen, 8 partial. Chunks that are gone are left out.
SELECT k.oid::bigint, n.nspname::text, k.relname::text,
       _timescaledb_functions.chunk_status(k.oid::pg_catalog.regclass)
FROM pg_catalog.pg_class AS k
JOIN pg_catalog.pg_namespace AS n ON n.oid = k.relnamespace
WHERE k.oid = ANY (%(oids)s::oid[])
ORDER BY k.oid
