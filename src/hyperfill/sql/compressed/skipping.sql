-- Whether chunks are left out of queries by the ranges of some columns (enable_chunk_skipping), which are computed when a
-- chunk is compressed, and not when compressed rows are written.
SELECT EXISTS (SELECT FROM _timescaledb_catalog.chunk_column_stats AS s
               JOIN _timescaledb_catalog.hypertable AS h ON h.id = s.hypertable_id
               JOIN pg_catalog.pg_namespace AS n ON n.nspname = h.schema_name
               JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = h.table_name
               WHERE c.oid = %s::bigint::oid)
