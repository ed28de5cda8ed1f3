-- Whether one relation is an ancestor of the other by inheritance (a chunk of its hypertable, a partition).
WITH RECURSIVE up (oid) AS (
    SELECT %(first)s::oid UNION SELECT i.inhparent FROM up JOIN pg_catalog.pg_inherits AS i ON i.inhrelid = up.oid
), up_second (oid) AS (
    SELECT %(second)s::oid UNION SELECT i.inhparent FROM up_second AS u JOIN pg_catalog.pg_inherits AS i ON i.inhrelid = u.oid
)
SELECT EXISTS (SELECT FROM up WHERE oid = %(second)s::oid) OR EXISTS (SELECT FROM up_second WHERE oid = %(first)s::oid)
