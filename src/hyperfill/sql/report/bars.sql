-- Windows in groups of neighbours, all of %(size)s windows but the last: what one bar of a chart shows.
WITH bar AS (
    SELECT pg_catalog.min(w.id) AS first, pg_catalog.max(w.id) AS last,
           pg_catalog.count(*) FILTER (WHERE w.state = 'done') AS done,
           pg_catalog.count(*) FILTER (WHERE w.state = 'failed') AS failed,
           pg_catalog.count(c.window_id) AS compared,
           pg_catalog.count(*) FILTER (WHERE NOT c.equal) AS differ,
           coalesce(pg_catalog.sum(w.rows_copied), 0)::bigint AS copied,
           coalesce(pg_catalog.sum(w.rows_deleted), 0)::bigint AS deleted,
           coalesce(pg_catalog.sum(c.source_rows), 0)::bigint AS source_rows,
           coalesce(pg_catalog.sum(c.target_rows), 0)::bigint AS target_rows
    FROM hyperfill.windows AS w
    LEFT JOIN hyperfill.comparisons AS c
        ON c.backfill_id = w.backfill_id AND c.window_id = w.id AND w.state = 'done' AND c.compared_at >= w.finished_at
    WHERE w.backfill_id = %(backfill)s
    GROUP BY (w.id - 1) / %(size)s::int
)
SELECT bar.first, bar.last, w.lower, bar.done, bar.failed, bar.compared, bar.differ, bar.copied, bar.deleted,
       bar.source_rows, bar.target_rows
FROM bar
JOIN hyperfill.windows AS w ON w.backfill_id = %(backfill)s AND w.id = bar.first
ORDER BY bar.first
