-- Rows and the sum of their hashes: the same on both sides if, and only if, the rows are (but for a
-- collision of 64-bit hashes). The order of rows does not matter, the number of equal rows does.
SELECT pg_catalog.count(*), coalesce(pg_catalog.sum(pg_catalog.hashtextextended(r::text, 0)::numeric), 0)::text
FROM {table} AS r
WHERE {column} >= {start} AND {column} < {end}
