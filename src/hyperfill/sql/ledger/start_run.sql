-- A run begins: what failed before is tried again.
WITH again AS (
    UPDATE hyperfill.windows SET state = 'pending', error = NULL
    WHERE backfill_id = %(id)s AND state = 'failed'
)
UPDATE hyperfill.backfills
SET runs = runs + 1, started_at = coalesce(started_at, now()), findings = %(findings)s
WHERE id = %(id)s
