-- Chunks that were compressed before and were not seen to be in order again since.
SELECT chunk_oid::bigint, chunk, lower, upper, status FROM hyperfill.chunk_states
WHERE backfill_id = %s AND recompressed_at IS NULL ORDER BY chunk_oid
