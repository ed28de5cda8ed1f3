-- Chunks into which batches of a load wrote.
SELECT DISTINCT pg_catalog.unnest(chunks)::bigint FROM hyperfill.batches WHERE backfill_id = %s AND state = 'done'
