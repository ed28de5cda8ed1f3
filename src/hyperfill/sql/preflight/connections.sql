-- Connections that this role may still open: of the server, of the database, of the role.
SELECT least(
    pg_catalog.current_setting('max_connections')::int
        - CASE WHEN r.rolsuper THEN 0
               ELSE pg_catalog.current_setting('superuser_reserved_connections')::int
                    + coalesce(pg_catalog.current_setting('reserved_connections', true)::int, 0) END
        - (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE backend_type = 'client backend')::int,
    CASE WHEN d.datconnlimit >= 0 AND NOT r.rolsuper THEN d.datconnlimit
        - (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE datid = d.oid)::int END,
    CASE WHEN r.rolconnlimit >= 0 AND NOT r.rolsuper THEN r.rolconnlimit
        - (SELECT pg_catalog.count(*) FROM pg_catalog.pg_stat_activity WHERE usesysid = r.oid)::int END)
FROM pg_catalog.pg_roles AS r, pg_catalog.pg_database AS d
WHERE r.rolname = current_user AND d.datname = pg_catalog.current_database()
