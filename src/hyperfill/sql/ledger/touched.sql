-- Windows that deleted or copied rows.
SELECT lower, upper FROM hyperfill.windows
WHERE backfill_id = %s AND state = 'done' AND rows_deleted + rows_copied > 0 ORDER BY id
