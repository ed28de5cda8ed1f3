-- What an abandoned load holds is held for the one in its place.
UPDATE hyperfill.hold_users SET backfill_id = %s WHERE backfill_id = %s
