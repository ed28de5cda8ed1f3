-- A hold ends, and with it everybody's use of it; the row stays as history.
WITH users AS (DELETE FROM hyperfill.hold_users WHERE hold_id = %(hold)s)
UPDATE hyperfill.holds SET released_at = pg_catalog.clock_timestamp(), outcome = %(outcome)s WHERE id = %(hold)s
