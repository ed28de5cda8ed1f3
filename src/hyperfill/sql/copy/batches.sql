-- Batches of a load that were loaded within the last seconds, with their time (copy -log-batches).
SELECT f.path, b.line, b.rows_read, b.length, extract(epoch FROM b.finished_at - b.started_at)::float8
FROM hyperfill.batches AS b JOIN hyperfill.files AS f ON f.backfill_id = b.backfill_id AND f.id = b.file_id
WHERE b.backfill_id = %s AND b.state = 'done'
  AND b.finished_at >= pg_catalog.clock_timestamp() - pg_catalog.make_interval(secs => %s)
ORDER BY b.finished_at
