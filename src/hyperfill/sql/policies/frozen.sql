-- Which of these chunks are frozen. The function's answer is a set of bits, 4 of them is "frozen".
-- OFFSET 0: the server must not ask it of other relations, for which it is an error.
SELECT s.oid
FROM (
    SELECT c.oid::bigint, _timescaledb_functions.chunk_status(c.oid::regclass) AS status
    FROM pg_catalog.unnest(%(chunks)s::bigint[]) AS one (oid)
    JOIN pg_catalog.pg_class AS c ON c.oid = one.oid::oid
    OFFSET 0
) AS s
WHERE s.status & 4 <> 0
