-- Batches of a load that are in the target, in the order of its files' bytes.
SELECT file_id, start, length, line, rows_read, xxh3 FROM hyperfill.batches
WHERE backfill_id = %s AND state = 'done' ORDER BY file_id, start
