-- Batches of a load, in the order of its files' bytes: all of them, or the first that failed.
SELECT f.path AS file, b.start, b.length, b.line, pg_catalog.encode(b.xxh3, 'hex') AS xxh3, b.state, b.rows_read,
       b.rows_copied, b.rows_skipped, b.rows_outside, b.rows_rejected, b.encoded, b.started_at, b.finished_at, b.error
FROM hyperfill.batches AS b
JOIN hyperfill.files AS f ON f.backfill_id = b.backfill_id AND f.id = b.file_id
WHERE b.backfill_id = %(backfill)s AND (b.state = 'failed' OR NOT %(failed)s)
ORDER BY b.file_id, b.start
LIMIT %(limit)s
