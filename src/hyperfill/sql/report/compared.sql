-- The comparisons of a backfill's windows, in sum. One that is older than the rows of its window says nothing.
SELECT pg_catalog.count(*) FILTER (WHERE c.mode = 'hash') AS by_hash,
       pg_catalog.count(*) FILTER (WHERE c.mode = 'count') AS by_count,
       pg_catalog.count(*) FILTER (WHERE NOT c.equal) AS differ,
       pg_catalog.sum(c.source_rows)::bigint AS source_rows,
       pg_catalog.sum(c.target_rows)::bigint AS target_rows,
       pg_catalog.sum(c.source_hash)::text AS source_hash,
       pg_catalog.sum(c.target_hash)::text AS target_hash,
       pg_catalog.min(c.compared_at) AS first,
       pg_catalog.max(c.compared_at) AS last
FROM hyperfill.windows AS w
JOIN hyperfill.comparisons AS c ON c.backfill_id = w.backfill_id AND c.window_id = w.id
WHERE w.backfill_id = %s AND w.state = 'done' AND c.compared_at >= w.finished_at
