-- Stretches that this window is a part of, and of which all windows are done. They are numbered along the time axis, as
-- windows are, so the first few that do not end before the window are all that can have a part of it.
SELECT c.id, c.lower, c.upper
FROM (SELECT id, lower, upper, first_window, last_window, state FROM hyperfill.conversions
      WHERE backfill_id = %(backfill)s AND last_window >= %(window)s
      ORDER BY last_window, id LIMIT 66) AS c
WHERE c.first_window < %(window)s + 1 AND c.state = 'pending'
  AND NOT EXISTS (SELECT FROM hyperfill.windows AS w
                  WHERE w.backfill_id = %(backfill)s AND w.id >= c.first_window AND w.id < c.last_window + 1
                    AND w.state <> 'done')
ORDER BY c.id
