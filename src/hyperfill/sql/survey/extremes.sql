-- Both ends of a range in one scan: for a source without an index on the time column.
SELECT pg_catalog.min(r.{column})::text, pg_catalog.max(r.{column})::text FROM {relation} AS r WHERE {range}
