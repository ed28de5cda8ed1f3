-- A slice that is refreshed.
UPDATE hyperfill.refreshes SET done_at = pg_catalog.clock_timestamp() WHERE backfill_id = %s AND id = %s
