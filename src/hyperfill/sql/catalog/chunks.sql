-- The time ranges of a hypertable's chunks (one chunk for each space partition: ranges repeat), the
-- chunk's name, whether it is compressed, and the planner's row count of its plain part (-1: unknown).
-- A role without USAGE on TimescaleDB's schemas could not cast names to regclass: the join avoids it.
SELECT c.range_start::text, c.range_end::text, c.range_start_integer, c.range_end_integer,
       c.chunk_schema::text, c.chunk_name::text, c.is_compressed,
       k.reltuples::bigint, k.relpages::bigint, k.oid::bigint
FROM timescaledb_information.chunks AS c
JOIN pg_catalog.pg_namespace AS n ON n.nspname = c.chunk_schema
JOIN pg_catalog.pg_class AS k ON k.relnamespace = n.oid AND k.relname = c.chunk_name
WHERE c.hypertable_schema = %(schema)s AND c.hypertable_name = %(name)s
