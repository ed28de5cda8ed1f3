-- Held by the session of a run, shared by several: what is being run is not cleaned away.
-- 1752196711: a second key space beside that of the hypertables.
SELECT pg_catalog.pg_advisory_lock_shared(1752196711, pg_catalog.int4(%s::bigint & 2147483647))
