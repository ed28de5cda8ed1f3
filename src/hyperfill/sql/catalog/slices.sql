-- Where chunks lie on the time axis, each looked up by itself: microseconds since 1970, or integers, as TimescaleDB keeps
-- them. Those that are gone are left out.
SELECT k.oid::bigint, n.nspname::text, k.relname::text,
       (s.slices -> %(column)s::text ->> 0)::bigint, (s.slices -> %(column)s::text ->> 1)::bigint
FROM pg_catalog.pg_class AS k
JOIN pg_catalog.pg_namespace AS n ON n.oid = k.relnamespace
CROSS JOIN LATERAL _timescaledb_functions.show_chunk(k.oid::pg_catalog.regclass) AS s
WHERE k.oid = ANY (%(oids)s::bigint[]::oid[])
