-- Whether this role can fill the hypertable and keep a ledger.
SELECT pg_catalog.has_schema_privilege(c.relnamespace, 'USAGE'),
       pg_catalog.row_security_active(c.oid),
       pg_catalog.has_table_privilege(c.oid, 'SELECT'),
       pg_catalog.has_table_privilege(c.oid, 'DELETE'),
       pg_catalog.pg_has_role(c.relowner, 'USAGE'),
       pg_catalog.to_regnamespace('hyperfill') IS NOT NULL,
       pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'),
       current_user::text
FROM pg_catalog.pg_class AS c WHERE c.oid = %(oid)s::oid
