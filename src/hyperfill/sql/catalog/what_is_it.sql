-- Why a relation of a TimescaleDB database is no hypertable that can be filled: a continuous aggregate,
-- the materialization behind one, or a chunk.
SELECT 'aggregate', NULL::text
FROM timescaledb_information.continuous_aggregates
WHERE view_schema = %(schema)s AND view_name = %(name)s
UNION ALL
SELECT 'materialization', pg_catalog.format('%%I.%%I', view_schema, view_name)
FROM timescaledb_information.continuous_aggregates
WHERE materialization_hypertable_schema = %(schema)s AND materialization_hypertable_name = %(name)s
UNION ALL
SELECT 'chunk', pg_catalog.format('%%I.%%I', hypertable_schema, hypertable_name)
FROM timescaledb_information.chunks
WHERE chunk_schema = %(schema)s AND chunk_name = %(name)s
