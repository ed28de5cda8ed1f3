-- Chunks of the range that were compressed before, and those of them that are in order again.
SELECT pg_catalog.count(*), pg_catalog.count(recompressed_at),
       (SELECT pg_catalog.array_agg(chunk) FROM (
           SELECT chunk FROM hyperfill.chunk_states
           WHERE backfill_id = %(backfill)s AND recompressed_at IS NULL ORDER BY chunk_oid LIMIT 50) AS open)
FROM hyperfill.chunk_states WHERE backfill_id = %(backfill)s
