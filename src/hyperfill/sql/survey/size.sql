-- Bytes of a relation with its partitions or children, without indexes and TOAST; and of everything.
WITH RECURSIVE tree (oid) AS (
    SELECT %(oid)s::oid
    UNION
    SELECT i.inhrelid FROM tree AS t JOIN pg_catalog.pg_inherits AS i ON i.inhparent = t.oid
)
SELECT coalesce(sum(pg_catalog.pg_relation_size(oid)), 0)::bigint,
       coalesce(sum(pg_catalog.pg_table_size(oid)), 0)::bigint
FROM tree
