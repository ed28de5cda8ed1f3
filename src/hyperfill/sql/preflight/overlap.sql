-- What the dual-writer has put into the range.
SELECT pg_catalog.count(*) FROM {relation} AS r WHERE {range}
