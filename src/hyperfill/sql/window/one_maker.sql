-- One worker at a time makes a chunk of a hypertable; held until the transaction ends. 1752196714: a fifth key space.
SELECT pg_catalog.pg_advisory_xact_lock(1752196714, pg_catalog.int4(%s::bigint - 2147483648))
