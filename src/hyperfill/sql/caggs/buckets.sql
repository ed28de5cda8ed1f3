-- How an aggregate cuts time (TimescaleDB 2.16 and later).
SELECT m.id, i.bucket_func::text, i.bucket_width::text, i.bucket_origin::text, i.bucket_offset::text,
       i.bucket_timezone::text
FROM pg_catalog.unnest(%(ids)s::int[]) AS m (id)
CROSS JOIN LATERAL _timescaledb_functions.cagg_get_bucket_function_info(m.id) AS i
