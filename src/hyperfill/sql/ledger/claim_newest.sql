-- Claim the next window against the time axis; see claim_oldest.
SELECT id, lower, upper, estimate, attempts, may_lose
FROM hyperfill.windows
WHERE backfill_id = %s AND id < %s AND state = 'pending'
ORDER BY id DESC
LIMIT 1
FOR NO KEY UPDATE SKIP LOCKED
