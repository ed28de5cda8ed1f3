-- Whether no run is at work on this backfill; the answer holds until the transaction ends.
SELECT pg_catalog.pg_try_advisory_xact_lock(1752196711, pg_catalog.int4(%s::bigint & 2147483647))
