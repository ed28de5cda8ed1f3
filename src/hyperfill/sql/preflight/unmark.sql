-- Take the mark away.
SELECT pg_catalog.pg_advisory_unlock(%(first)s::int, %(second)s::int)
