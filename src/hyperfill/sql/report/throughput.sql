-- Rows by slices of the time in which something was moved. A window's rows are spread evenly over its transaction.
-- starts: of the periods; offsets: seconds of the periods before each; width: of a slice, in seconds.
WITH piece AS (
    SELECT started_at, finished_at, rows_copied AS rows
    FROM hyperfill.windows WHERE backfill_id = %(backfill)s AND state = 'done'
  UNION ALL
    SELECT started_at, finished_at, rows_copied
    FROM hyperfill.batches WHERE backfill_id = %(backfill)s AND state = 'done' AND finished_at IS NOT NULL
), numbered AS (
    SELECT *, pg_catalog.width_bucket(started_at, %(starts)s::timestamptz[]) AS period FROM piece
), placed AS (
    SELECT rows::float8 AS rows, (%(offsets)s::float8[])[period]
               + extract(epoch FROM started_at - (%(starts)s::timestamptz[])[period])::float8 AS first,
           (%(offsets)s::float8[])[period]
               + extract(epoch FROM finished_at - (%(starts)s::timestamptz[])[period])::float8 AS last
    FROM numbered
), sliced AS (
    SELECT *, least(pg_catalog.floor(first / %(width)s::float8)::int, %(slices)s::int - 1) AS first_slice,
           least(pg_catalog.floor(last / %(width)s::float8)::int, %(slices)s::int - 1) AS last_slice
    FROM placed
)
SELECT slice, pg_catalog.sum(rows * CASE
           WHEN first_slice = last_slice THEN 1.0
           ELSE greatest(0.0, least(last, (slice + 1) * %(width)s::float8)
                              - greatest(first, slice * %(width)s::float8)) / (last - first) END)
FROM sliced CROSS JOIN LATERAL pg_catalog.generate_series(first_slice, last_slice) AS slice
GROUP BY slice
ORDER BY slice
