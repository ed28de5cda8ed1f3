-- A slice to be refreshed, or a bucket that is left out and why.
INSERT INTO hyperfill.refreshes (backfill_id, id, aggregate, view, level, lower, upper, left_out)
VALUES (%(backfill)s, %(id)s, %(aggregate)s, %(view)s, %(level)s, %(lower)s, %(upper)s, %(left_out)s)
