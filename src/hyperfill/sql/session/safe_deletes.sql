-- DELETE in compressed chunks, where the server is known to do it wrong:
-- deleting whole batches took rows too many (2.17.0 to 2.18.0; with unusual operators until 2.28.2), told no
-- continuous aggregate (until 2.25) and miscounted (until 2.20);
-- a bitmap scan on PostgreSQL before 17 missed rows that the same statement had decompressed (until 2.25).
SELECT pg_catalog.set_config(s.name, 'off', false)
FROM pg_catalog.pg_extension AS e
CROSS JOIN LATERAL (
    SELECT pg_catalog.string_to_array(pg_catalog.split_part(e.extversion, '-', 1), '.')::int[] AS number
) AS v
JOIN pg_catalog.pg_settings AS s
  ON s.name = 'timescaledb.enable_compressed_direct_batch_delete' AND v.number < ARRAY[2, 28, 3]
  OR s.name = 'enable_bitmapscan' AND v.number < ARRAY[2, 25]
     AND pg_catalog.current_setting('server_version_num')::int < 170000
WHERE e.extname = 'timescaledb'
