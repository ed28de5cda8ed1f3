-- Windows for a page: those that differ, then those that failed, deleted rows, are done, are not yet done. Or only
-- those that differ, or only those that failed, at last or so far.
SELECT w.id, w.lower, w.upper, w.state, w.attempts, w.rows_deleted, w.rows_copied, w.started_at, w.finished_at,
       w.error, c.mode, c.equal, c.source_rows, c.target_rows, c.source_hash::text, c.target_hash::text, c.compared_at
FROM hyperfill.windows AS w
LEFT JOIN hyperfill.comparisons AS c
    ON c.backfill_id = w.backfill_id AND c.window_id = w.id AND w.state = 'done' AND c.compared_at >= w.finished_at
WHERE w.backfill_id = %(backfill)s
  AND CASE %(only)s::text WHEN 'differ' THEN NOT c.equal
                          WHEN 'failed' THEN w.state = 'failed' OR w.state = 'pending' AND w.error IS NOT NULL
                          ELSE true END
ORDER BY CASE WHEN NOT c.equal THEN 0 WHEN w.state = 'failed' THEN 1 WHEN w.rows_deleted > 0 THEN 2
              WHEN w.state = 'done' THEN 3 ELSE 4 END,
         w.id
LIMIT %(limit)s
