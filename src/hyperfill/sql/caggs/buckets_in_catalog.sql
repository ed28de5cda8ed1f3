-- How an aggregate cuts time (TimescaleDB before 2.16, which has no function for it).
SELECT mat_hypertable_id, bucket_func::text, bucket_width::text, bucket_origin::text, bucket_offset::text,
       bucket_timezone::text
FROM _timescaledb_catalog.continuous_aggs_bucket_function
WHERE mat_hypertable_id = ANY (%(ids)s::int[])
