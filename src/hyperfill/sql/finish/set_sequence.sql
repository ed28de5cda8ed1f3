-- The next value will be the one after this.
SELECT pg_catalog.setval(%(oid)s::bigint::oid::regclass, %(value)s::bigint)
