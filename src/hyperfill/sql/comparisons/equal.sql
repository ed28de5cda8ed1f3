-- Windows that were found equal, by this mode or a better one.
SELECT window_id FROM hyperfill.comparisons
WHERE backfill_id = %(backfill)s AND equal AND mode IN ('hash', %(mode)s)
