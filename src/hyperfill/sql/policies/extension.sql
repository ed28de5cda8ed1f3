-- Where TimescaleDB is in this database: its schema, its edition, and the table of its jobs, which moved in 2.25.
SELECT n.nspname::text,
       pg_catalog.current_setting('timescaledb.license', true) = 'timescale',
       CASE WHEN pg_catalog.to_regclass('_timescaledb_catalog.bgw_job') IS NOT NULL
            THEN '_timescaledb_catalog' ELSE '_timescaledb_config' END
FROM pg_catalog.pg_extension AS e
JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
WHERE e.extname = 'timescaledb'
