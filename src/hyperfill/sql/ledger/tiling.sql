-- The windows of a backfill as they follow each other: how many there are, the first that does not begin where the one
-- before it ends, or has not the next number (NULL: none), where they begin, and where they end.
SELECT pg_catalog.count(*),
       pg_catalog.min(w.number) FILTER (WHERE w.id <> w.number OR w.number > 1 AND w.lower IS DISTINCT FROM w.previous),
       pg_catalog.max(w.lower) FILTER (WHERE w.number = 1),
       pg_catalog.max(w.upper) FILTER (WHERE w.following IS NULL)
FROM (
    SELECT id, lower, upper,
           pg_catalog.row_number() OVER (ORDER BY id) AS number,
           pg_catalog.lag(upper) OVER (ORDER BY id) AS previous,
           pg_catalog.lead(id) OVER (ORDER BY id) AS following
    FROM hyperfill.windows
    WHERE backfill_id = %s
) AS w
