-- For whom a policy is held: a backfill, or (NULL) somebody by hand. Once each.
INSERT INTO hyperfill.hold_users (hold_id, backfill_id) VALUES (%(hold)s, %(backfill)s)
ON CONFLICT (hold_id, coalesce(backfill_id, 0)) DO NOTHING
