-- A mark that only sessions of this very database can see.
SELECT pg_catalog.pg_try_advisory_lock(%(first)s::int, %(second)s::int)
