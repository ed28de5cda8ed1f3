-- The owner of a relation, and whether this role may act for it.
SELECT pg_catalog.pg_get_userbyid(relowner)::text, pg_catalog.pg_has_role(relowner, 'USAGE'), current_user::text
FROM pg_catalog.pg_class WHERE oid = %(oid)s
