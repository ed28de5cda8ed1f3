-- The continuous aggregates that depend on a hypertable, at every level, with the dimension of their materialization.
WITH RECURSIVE level (hypertable_id, parent_id, depth) AS (
    SELECT h.id, NULL::int, 0 FROM _timescaledb_catalog.hypertable AS h
    WHERE h.schema_name = %(schema)s AND h.table_name = %(name)s
  UNION ALL
    SELECT c.mat_hypertable_id, l.hypertable_id, l.depth + 1
    FROM level AS l
    JOIN _timescaledb_catalog.continuous_agg AS c ON c.raw_hypertable_id = l.hypertable_id
)
SELECT l.hypertable_id AS id, l.parent_id, l.depth AS level,
       c.user_view_schema::text AS schema, c.user_view_name::text AS name,
       h.schema_name::text AS mat_schema, h.table_name::text AS mat_name, d.column_name::text AS "column",
       pg_catalog.format_type(d.column_type, NULL) AS type,
       pg_catalog.pg_get_userbyid(v.relowner)::text AS owner, pg_catalog.pg_has_role(v.relowner, 'USAGE') AS owned,
       w.watermark
FROM level AS l
JOIN _timescaledb_catalog.continuous_agg AS c ON c.mat_hypertable_id = l.hypertable_id
JOIN _timescaledb_catalog.hypertable AS h ON h.id = l.hypertable_id
JOIN pg_catalog.pg_namespace AS n ON n.nspname = c.user_view_schema
JOIN pg_catalog.pg_class AS v ON v.relnamespace = n.oid AND v.relname = c.user_view_name
JOIN LATERAL (
    SELECT column_name, column_type FROM _timescaledb_catalog.dimension
    WHERE hypertable_id = h.id AND interval_length IS NOT NULL ORDER BY id LIMIT 1
) AS d ON true
LEFT JOIN _timescaledb_catalog.continuous_aggs_watermark AS w ON w.mat_hypertable_id = l.hypertable_id
ORDER BY l.depth, l.hypertable_id
