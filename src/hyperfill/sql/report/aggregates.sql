-- Continuous aggregates of a backfill, each with its refreshes in sum; those that are planned, or were there before.
WITH slices AS (
    SELECT r.aggregate, r.view, r.level, pg_catalog.min(r.id) AS first, pg_catalog.max(r.id) AS last,
           pg_catalog.count(*) FILTER (WHERE r.left_out IS NULL) AS planned, pg_catalog.count(r.done_at) AS done,
           pg_catalog.count(r.left_out) AS left_out, pg_catalog.min(r.left_out) AS reason,
           pg_catalog.min(r.done_at) AS first_done, pg_catalog.max(r.done_at) AS last_done
    FROM hyperfill.refreshes AS r WHERE r.backfill_id = %(backfill)s
    GROUP BY r.aggregate, r.view, r.level
)
SELECT coalesce(s.view, a.view) AS view, coalesce(s.level, a.level) AS level, a.watermark,
       coalesce(s.planned, 0) AS planned, coalesce(s.done, 0) AS done, coalesce(s.left_out, 0) AS left_out, s.reason,
       f.lower, l.upper, s.first_done, s.last_done
FROM (SELECT * FROM hyperfill.aggregates WHERE backfill_id = %(backfill)s) AS a
FULL JOIN slices AS s ON s.aggregate = a.id
LEFT JOIN hyperfill.refreshes AS f ON f.backfill_id = %(backfill)s AND f.id = s.first
LEFT JOIN hyperfill.refreshes AS l ON l.backfill_id = %(backfill)s AND l.id = s.last
ORDER BY 2, 1
