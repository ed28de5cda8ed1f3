-- Files of a load with what became of their rows; the first %(limit)s, or all of them.
SELECT f.path, f.size, f.content_bytes, b.*
FROM hyperfill.files AS f
CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) FILTER (WHERE state = 'done') AS batches,
           pg_catalog.count(*) FILTER (WHERE state = 'failed') AS batches_failed,
           coalesce(pg_catalog.sum(rows_read) FILTER (WHERE state = 'done'), 0)::bigint AS rows_read,
           coalesce(pg_catalog.sum(rows_copied), 0)::bigint AS rows_copied,
           coalesce(pg_catalog.sum(rows_skipped), 0)::bigint AS rows_skipped,
           coalesce(pg_catalog.sum(rows_outside), 0)::bigint AS rows_outside,
           coalesce(pg_catalog.sum(rows_rejected), 0)::bigint AS rows_rejected
    FROM hyperfill.batches WHERE backfill_id = f.backfill_id AND file_id = f.id
) AS b
WHERE f.backfill_id = %(backfill)s
ORDER BY f.id
LIMIT %(limit)s
