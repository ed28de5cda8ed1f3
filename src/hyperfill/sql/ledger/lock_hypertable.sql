-- Every transaction that changes control tables takes this lock first: overlap checks, holds that two
-- backfills share and the last release are no races then. 1752196710 is "hypf" in ASCII.
SELECT pg_catalog.pg_advisory_xact_lock(1752196710, pg_catalog.int4(%s::bigint - 2147483648))
