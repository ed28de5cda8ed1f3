-- The columns by which compressed rows are kept together: a row named by all of them lies in one segment.
SELECT attname::text FROM timescaledb_information.compression_settings
WHERE hypertable_schema = %(schema)s AND hypertable_name = %(name)s AND segmentby_column_index IS NOT NULL
