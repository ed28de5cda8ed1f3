-- How many rows there are, and nothing of their values.
SELECT pg_catalog.count(*), NULL::text FROM {relation} AS r WHERE {range}
