-- All windows of a backfill with their comparisons, along the axis.
SELECT w.id AS window, coalesce(w.lower, '-infinity') AS lower, w.upper, w.state, w.estimate AS rows_estimated,
       w.attempts, w.rows_deleted, w.rows_copied, w.bytes_copied, w.started_at, w.finished_at, w.error,
       CASE WHEN c.window_id IS NOT NULL THEN pg_catalog.json_build_object(
           'mode', c.mode, 'equal', c.equal, 'source_rows', c.source_rows, 'target_rows', c.target_rows,
           'source_hash', c.source_hash::text, 'target_hash', c.target_hash::text, 'compared_at', c.compared_at
       ) END AS comparison
FROM hyperfill.windows AS w
LEFT JOIN hyperfill.comparisons AS c
    ON c.backfill_id = w.backfill_id AND c.window_id = w.id AND w.state = 'done' AND c.compared_at >= w.finished_at
WHERE w.backfill_id = %s
ORDER BY w.id
