-- The stretch, for this transaction alone; nothing where another has it, or it is done.
SELECT id FROM hyperfill.conversions
WHERE backfill_id = %s AND id = %s AND state = 'pending'
FOR NO KEY UPDATE SKIP LOCKED
