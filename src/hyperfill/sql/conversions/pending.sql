-- Stretches that are not compressed yet although all their windows are done.
SELECT c.id, c.lower, c.upper
FROM hyperfill.conversions AS c
WHERE c.backfill_id = %(backfill)s AND c.state = 'pending'
  AND NOT EXISTS (SELECT FROM hyperfill.windows AS w
                  WHERE w.backfill_id = %(backfill)s AND w.id >= c.first_window AND w.id < c.last_window + 1
                    AND w.state <> 'done')
ORDER BY c.id
