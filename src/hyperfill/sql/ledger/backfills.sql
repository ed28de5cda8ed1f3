-- Backfills with the sum of their windows and, for loads, of their batches; newest last. Windows that differ are those
-- of which the last comparison said so.
SELECT b.id, b.kind, b.hypertable, b.hypertable_oid::bigint, b.source, b.source_relation, b.time_type, b.time_column,
       b.source_time_column, b.range_start, b.range_end, b.columns, b.settings, b.phase,
       b.planned_at, b.started_at, b.finished_at, b.runs, b.findings,
       w.total, w.done, w.failed, w.rows_copied + l.rows_copied AS rows_copied, w.rows_deleted,
       c.differing, w.bytes_copied + l.bytes_read AS bytes_copied, w.estimate, w.estimate_done,
       l.batches, l.batches_failed, l.rows_read, l.rows_skipped, l.rows_outside, l.rows_rejected, f.bytes_total
FROM hyperfill.backfills AS b
CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) AS total,
           pg_catalog.count(*) FILTER (WHERE state = 'done') AS done,
           pg_catalog.count(*) FILTER (WHERE state = 'failed') AS failed,
           coalesce(pg_catalog.sum(rows_copied), 0)::bigint AS rows_copied,
           coalesce(pg_catalog.sum(rows_deleted), 0)::bigint AS rows_deleted,
           coalesce(pg_catalog.sum(bytes_copied), 0)::bigint AS bytes_copied,
           coalesce(pg_catalog.sum(estimate), 0)::bigint AS estimate,
           coalesce(pg_catalog.sum(estimate) FILTER (WHERE state = 'done'), 0)::bigint AS estimate_done
    FROM hyperfill.windows
    WHERE backfill_id = b.id
) AS w
CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) FILTER (WHERE state = 'done') AS batches,
           pg_catalog.count(*) FILTER (WHERE state = 'failed') AS batches_failed,
           coalesce(pg_catalog.sum(length) FILTER (WHERE state = 'done'), 0)::bigint AS bytes_read,
           coalesce(pg_catalog.sum(rows_read) FILTER (WHERE state = 'done'), 0)::bigint AS rows_read,
           coalesce(pg_catalog.sum(rows_copied), 0)::bigint AS rows_copied,
           coalesce(pg_catalog.sum(rows_skipped), 0)::bigint AS rows_skipped,
           coalesce(pg_catalog.sum(rows_outside), 0)::bigint AS rows_outside,
           coalesce(pg_catalog.sum(rows_rejected), 0)::bigint AS rows_rejected
    FROM hyperfill.batches
    WHERE backfill_id = b.id
) AS l
CROSS JOIN LATERAL (
    SELECT CASE WHEN pg_catalog.bool_and(content_bytes IS NOT NULL)
                THEN pg_catalog.sum(content_bytes)::bigint END AS bytes_total
    FROM hyperfill.files
    WHERE backfill_id = b.id
) AS f
CROSS JOIN LATERAL (
    SELECT pg_catalog.count(*) AS differing FROM hyperfill.comparisons WHERE backfill_id = b.id AND NOT equal
) AS c
WHERE (%(ids)s::bigint[] IS NULL OR b.id = ANY (%(ids)s::bigint[]))
  AND (%(hypertable_oid)s::bigint IS NULL OR b.hypertable_oid = %(hypertable_oid)s::oid)
ORDER BY b.id
