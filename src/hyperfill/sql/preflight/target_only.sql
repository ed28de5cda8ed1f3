-- Rows in the range that hold something in a column which the source does not have: it would be lost.
SELECT pg_catalog.count(*) FROM {relation} AS r WHERE {range} AND ({filled})
