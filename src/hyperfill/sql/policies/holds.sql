-- What is held of a hypertable, and for whom: backfills that are unfinished, and "by hand". A backfill that was
-- cleaned away, or is done, holds nothing any more.
SELECT h.id, h.hypertable, h.job_id, h.kind, h.relation, h.held_at,
       coalesce(pg_catalog.array_agg(b.id ORDER BY b.id) FILTER (WHERE b.id IS NOT NULL), '{}') AS backfills,
       coalesce(pg_catalog.bool_or(u.hold_id IS NOT NULL AND u.backfill_id IS NULL), false) AS by_hand
FROM hyperfill.holds AS h
LEFT JOIN hyperfill.hold_users AS u ON u.hold_id = h.id
LEFT JOIN hyperfill.backfills AS b ON b.id = u.backfill_id AND b.phase <> 'done'
WHERE h.hypertable_oid = %(oid)s::bigint::oid AND h.released_at IS NULL
GROUP BY h.id
ORDER BY h.job_id
