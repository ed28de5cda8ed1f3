-- One transaction at a time adds rejects to a load, or together they would have more than are allowed.
-- 1752196712: a third key space.
SELECT pg_catalog.pg_advisory_xact_lock(1752196712, pg_catalog.int4(%s::bigint & 2147483647))
