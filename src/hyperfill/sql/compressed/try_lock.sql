-- All windows of one compressed chunk go to one worker at a time: two decompressing deletes can meet on a batch.
-- 1752196712: a third key space beside those of hypertables and backfills.
SELECT pg_catalog.pg_try_advisory_xact_lock(1752196712, pg_catalog.int4(%s::bigint - 2147483648))
