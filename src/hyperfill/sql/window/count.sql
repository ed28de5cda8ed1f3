-- Rows of the target in the window. And whose name it is now: this statement's lock keeps it until the
-- transaction ends, so the DELETE and the COPY that follow meet the same relation.
SELECT pg_catalog.count(*), pg_catalog.to_regclass({name})::oid::bigint FROM {relation} AS r WHERE {window}
