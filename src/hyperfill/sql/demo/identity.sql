-- Rows, and a hash of where each one is stored and which transaction wrote it: changes when a row is
-- rewritten, even with the same values.
SELECT pg_catalog.count(*),
       coalesce(pg_catalog.sum(pg_catalog.hashtextextended(
           pg_catalog.concat_ws(' ', r.tableoid, r.ctid, r.xmin, r::text), 0)::numeric), 0)::text
FROM {table} AS r
WHERE {column} >= {start} AND {column} < {end}
