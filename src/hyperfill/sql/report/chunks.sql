-- Chunks of the range that were compressed before.
SELECT chunk, lower, upper, status, recompressed_at
FROM hyperfill.chunk_states WHERE backfill_id = %s ORDER BY chunk_oid
