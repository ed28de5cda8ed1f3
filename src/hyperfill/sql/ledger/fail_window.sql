-- A window that was rolled back, and why. Not if somebody else has finished it since.
UPDATE hyperfill.windows SET state = %s, attempts = attempts + 1, error = %s
WHERE backfill_id = %s AND id = %s AND state <> 'done'
