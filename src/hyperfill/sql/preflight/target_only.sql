-- Rows in the range that hold something in a column which the source does not have: it would be lost.
-- First how many rows, then how many for each column.
SELECT pg_catalog.count(*) FILTER (WHERE {anything}), {terms} FROM {relation} AS r WHERE {range}
