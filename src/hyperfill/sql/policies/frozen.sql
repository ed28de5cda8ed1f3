-- Which of these chunks are frozen. The function's answer is a set of bits, 4 of them is "frozen".
SELECT c.oid::bigint
FROM pg_catalog.unnest(%(chunks)s::bigint[]) AS one (oid)
JOIN pg_catalog.pg_class AS c ON c.oid = one.oid::oid
WHERE _timescaledb_functions.chunk_status(c.oid::regclass) & 4 <> 0
