-- Whether that mark is here. Every role may look at pg_locks.
SELECT EXISTS (
    SELECT FROM pg_catalog.pg_locks
    WHERE locktype = 'advisory' AND objsubid = 2
      AND database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
      AND classid::bigint = %(first)s::bigint AND objid::bigint = %(second)s::bigint)
