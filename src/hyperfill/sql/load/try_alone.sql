-- One run of a load at a time, for as long as this session lives. 1752196713: a fourth key space.
SELECT pg_catalog.pg_try_advisory_lock(1752196713, pg_catalog.int4(%s::bigint & 2147483647))
