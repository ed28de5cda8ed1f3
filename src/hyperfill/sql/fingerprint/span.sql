-- How many rows there are, and a sum over them that does not depend on their order. The hash of a record is linear in
-- its columns: in a plain sum, two rows that swapped a value with each other add up to the same in two cases of three.
-- Hashed once more, with itself as the seed, they do not. OFFSET keeps the planner from computing it twice.
SELECT pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashint8extended(h.hash, h.hash))::text
FROM (SELECT {hash} AS hash FROM {relation} AS r WHERE {range} OFFSET 0) AS h
