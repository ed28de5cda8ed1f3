-- Whether this server has a function that says how an aggregate cuts time.
SELECT pg_catalog.to_regproc('_timescaledb_functions.cagg_get_bucket_function_info') IS NOT NULL
