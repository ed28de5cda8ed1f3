-- The slices of a backfill, levels in order.
SELECT id, aggregate, view, level, lower, upper, left_out, done_at IS NOT NULL AS done
FROM hyperfill.refreshes WHERE backfill_id = %s ORDER BY id
