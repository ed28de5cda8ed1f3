-- Batches of a load in groups of neighbours: the number of the first one, of its file, rows copied and not copied.
WITH batch AS (
    SELECT pg_catalog.row_number() OVER (ORDER BY file_id, start) AS number, file_id,
           CASE WHEN state = 'done' THEN rows_copied ELSE 0 END AS copied,
           CASE WHEN state = 'done' THEN rows_skipped + rows_outside + rows_rejected ELSE 0 END AS left_out, state
    FROM hyperfill.batches WHERE backfill_id = %(backfill)s
)
SELECT pg_catalog.min(number), pg_catalog.max(number), pg_catalog.min(file_id), pg_catalog.sum(copied)::bigint,
       pg_catalog.sum(left_out)::bigint, pg_catalog.count(*) FILTER (WHERE state = 'failed')
FROM batch
GROUP BY (number - 1) / %(size)s::int
ORDER BY 1
