-- Whether this role may make temporary tables here.
SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY')
