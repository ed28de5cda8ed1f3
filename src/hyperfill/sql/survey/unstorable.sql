-- Rows at -infinity: no hypertable can hold one.
SELECT pg_catalog.count(*) FROM {relation} AS r WHERE r.{column} = '-infinity'
