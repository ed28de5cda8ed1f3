-- Batches that failed, with file and reason.
SELECT f.path, b.start, b.length, b.line, b.rows_read, b.error
FROM hyperfill.batches AS b JOIN hyperfill.files AS f ON f.backfill_id = b.backfill_id AND f.id = b.file_id
WHERE b.backfill_id = %s AND b.state = 'failed' ORDER BY b.file_id, b.start LIMIT 100
