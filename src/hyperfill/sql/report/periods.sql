-- When windows and batches were moved: stretches of time with no pause between them longer than %(pause)s seconds.
WITH piece AS (
    SELECT started_at, finished_at, rows_copied AS rows, bytes_copied AS bytes
    FROM hyperfill.windows WHERE backfill_id = %(backfill)s AND state = 'done'
  UNION ALL
    SELECT started_at, finished_at, rows_copied, length
    FROM hyperfill.batches WHERE backfill_id = %(backfill)s AND state = 'done' AND finished_at IS NOT NULL
), seen AS (
    SELECT *, pg_catalog.max(finished_at) OVER (
        ORDER BY started_at, finished_at ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS before
    FROM piece
), numbered AS (
    SELECT *, pg_catalog.count(*) FILTER (
        WHERE started_at > before + pg_catalog.make_interval(secs => %(pause)s::float8)
    ) OVER (ORDER BY started_at, finished_at) AS number
    FROM seen
)
SELECT pg_catalog.min(started_at) AS started_at, pg_catalog.max(finished_at) AS finished_at,
       pg_catalog.count(*) AS pieces, pg_catalog.sum(rows)::bigint AS rows, pg_catalog.sum(bytes)::bigint AS bytes
FROM numbered
GROUP BY number
ORDER BY number
