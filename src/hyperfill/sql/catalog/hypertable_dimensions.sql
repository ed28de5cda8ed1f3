-- Dimensions of a hypertable, the time dimension first. The view says nothing of a partitioning
-- function on the time column: that one comes from the catalog.
SELECT d.column_name::text,
       d.dimension_type,
       (extract(epoch FROM d.time_interval) * 1000000)::bigint,
       d.integer_interval,
       d.num_partitions,
       c.partitioning_func::text
FROM timescaledb_information.dimensions AS d
JOIN _timescaledb_catalog.hypertable AS h ON h.schema_name = d.hypertable_schema AND h.table_name = d.hypertable_name
JOIN _timescaledb_catalog.dimension AS c ON c.hypertable_id = h.id AND c.column_name = d.column_name
WHERE d.hypertable_schema = %(schema)s AND d.hypertable_name = %(name)s
ORDER BY d.dimension_number
