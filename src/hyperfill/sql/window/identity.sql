-- Which relation has this name.
SELECT pg_catalog.to_regclass(%s)::oid::bigint
