-- Rows without a time: they belong to no window.
SELECT pg_catalog.count(*) FROM {relation} AS r WHERE r.{column} IS NULL
