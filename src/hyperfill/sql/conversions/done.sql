-- The chunks of a stretch are compressed and in order: in the transaction that made them so.
UPDATE hyperfill.conversions
SET state = 'done', written = %(written)s, finished_at = pg_catalog.clock_timestamp()
WHERE backfill_id = %(backfill)s AND id = %(id)s
