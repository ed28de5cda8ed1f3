-- After a COMMIT whose answer was lost: waits for the old backend, which may still be committing, and
-- only then reads. A plain read would say "pending" half a second too early.
SELECT state FROM hyperfill.windows WHERE backfill_id = %s AND id = %s FOR NO KEY UPDATE
