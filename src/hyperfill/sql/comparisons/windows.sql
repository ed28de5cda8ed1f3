-- The windows of a backfill, with the rows they were given, or seemed to need.
SELECT id, lower, upper, coalesce(rows_copied, estimate) FROM hyperfill.windows WHERE backfill_id = %s ORDER BY id
