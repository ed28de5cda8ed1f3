-- Begin a window's transaction, claim the next window along the time axis, and name the session after it until the
-- transaction ends: one message, for this is done once for each of maybe many thousands. Not READ WRITE: a server that
-- was made read-only means it. By cursor (id > last), so that a claim never walks over finished rows again; windows that
-- others hold are passed over. The row lock is the lease.
BEGIN ISOLATION LEVEL READ COMMITTED;
SELECT w.id, w.lower, w.upper, w.estimate, w.attempts, w.may_lose,
       (SELECT c.id FROM hyperfill.conversions AS c
        WHERE c.backfill_id = {backfill} AND c.last_window = w.id AND c.direct AND c.state = 'pending'),
       pg_catalog.set_config('application_name', 'hyperfill/' || {backfill}::text || '/' || w.id::text, true)
FROM (SELECT id, lower, upper, estimate, attempts, may_lose
      FROM hyperfill.windows
      WHERE backfill_id = {backfill} AND id > {cursor} AND state = 'pending'
      ORDER BY id
      LIMIT 1
      FOR NO KEY UPDATE SKIP LOCKED) AS w
