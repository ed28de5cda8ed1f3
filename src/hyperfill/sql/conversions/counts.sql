-- How many stretches are to end compressed; of those, how many were written so, compressed afterwards, and are left.
SELECT pg_catalog.count(*) FILTER (WHERE state = 'pending' OR written IS NOT NULL),
       pg_catalog.count(*) FILTER (WHERE state = 'done' AND written),
       pg_catalog.count(*) FILTER (WHERE state = 'done' AND NOT written),
       pg_catalog.count(*) FILTER (WHERE state = 'pending')
FROM hyperfill.conversions WHERE backfill_id = %s
