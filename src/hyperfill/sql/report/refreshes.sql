-- Every slice of the continuous aggregates that was refreshed, or left out and why.
SELECT view, level, lower, upper, left_out, done_at
FROM hyperfill.refreshes WHERE backfill_id = %s ORDER BY id
