-- Claim the next window along the time axis. By cursor (id > last), so that a claim never walks over
-- finished rows again; windows that others hold are passed over. The row lock is the lease.
SELECT id, lower, upper, estimate, attempts, may_lose
FROM hyperfill.windows
WHERE backfill_id = %s AND id > %s AND state = 'pending'
ORDER BY id
LIMIT 1
FOR NO KEY UPDATE SKIP LOCKED
