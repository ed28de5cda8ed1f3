-- Claim the next window against the time axis; see claim_oldest.
BEGIN ISOLATION LEVEL READ COMMITTED;
SELECT w.id, w.lower, w.upper, w.estimate, w.attempts, w.may_lose,
       (SELECT c.id FROM hyperfill.conversions AS c
        WHERE c.backfill_id = {backfill} AND c.last_window = w.id AND c.direct AND c.state = 'pending'),
       pg_catalog.set_config('application_name', 'hyperfill/' || {backfill}::text || '/' || w.id::text, true)
FROM (SELECT id, lower, upper, estimate, attempts, may_lose
      FROM hyperfill.windows
      WHERE backfill_id = {backfill} AND id < {cursor} AND state = 'pending'
      ORDER BY id DESC
      LIMIT 1
      FOR NO KEY UPDATE SKIP LOCKED) AS w
