-- How many rows there are, and a sum over them that does not depend on their order.
SELECT pg_catalog.count(*), pg_catalog.sum({hash})::text FROM {relation} AS r WHERE {range}
