-- A backfill needs its holds no longer.
DELETE FROM hyperfill.hold_users AS u
USING hyperfill.holds AS h
WHERE h.id = u.hold_id AND h.hypertable_oid = %(oid)s::bigint::oid AND u.backfill_id = %(backfill)s
