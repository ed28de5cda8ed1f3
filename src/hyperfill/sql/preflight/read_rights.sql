-- Whether this role can read the relation, and whether row-level security hides rows from it.
SELECT pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE'),
       pg_catalog.row_security_active(c.oid)
FROM pg_catalog.pg_class AS c WHERE c.oid = %(oid)s::oid
