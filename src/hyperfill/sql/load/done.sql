-- Batches of a file that are loaded, in the order of its bytes.
SELECT start, length, line, rows_read, xxh3 FROM hyperfill.batches
WHERE backfill_id = %s AND file_id = %s AND state = 'done' ORDER BY start
