-- The chunks of a hypertable by oid, and no more: with thousands of chunks the view takes ten milliseconds.
SELECT i.inhrelid::bigint FROM pg_catalog.pg_inherits AS i WHERE i.inhparent = %s::bigint::oid
