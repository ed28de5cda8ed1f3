-- A chunk that needs nothing more.
UPDATE hyperfill.chunk_states SET recompressed_at = pg_catalog.clock_timestamp()
WHERE backfill_id = %s AND chunk_oid = %s
