-- Windows that failed, with the reason.
SELECT id, lower, upper, error FROM hyperfill.windows
WHERE backfill_id = %s AND state = 'failed' ORDER BY id LIMIT 100
