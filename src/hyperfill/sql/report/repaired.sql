-- The windows of a repair that were moved again and equal by hash afterwards.
SELECT w.lower, w.upper, c.compared_at
FROM hyperfill.windows AS w
JOIN hyperfill.comparisons AS c ON c.backfill_id = w.backfill_id AND c.window_id = w.id
WHERE w.backfill_id = %s AND w.state = 'done' AND c.compared_at >= w.finished_at AND c.equal AND c.mode = 'hash'
ORDER BY w.id
