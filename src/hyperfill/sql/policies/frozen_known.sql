-- Whether this version tells the state of a chunk.
SELECT pg_catalog.to_regprocedure('_timescaledb_functions.chunk_status(regclass)') IS NOT NULL
