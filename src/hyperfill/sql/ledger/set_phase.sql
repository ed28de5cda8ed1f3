-- One phase further, once: a second run that arrives here at the same time finds nothing to update.
UPDATE hyperfill.backfills
SET phase = %(phase)s, finished_at = CASE WHEN %(phase)s = 'done' THEN pg_catalog.clock_timestamp() END
WHERE id = %(id)s AND phase <> %(phase)s
