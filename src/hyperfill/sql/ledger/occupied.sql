-- Windows of a backfill that have rows, as planned or as moved.
SELECT lower, upper FROM hyperfill.windows
WHERE backfill_id = %s AND coalesce(rows_copied, estimate) > 0 ORDER BY id
