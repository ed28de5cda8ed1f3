-- One row about the server and the session: versions, edition, identity, whether it can be written.
SELECT pg_catalog.current_setting('server_version_num')::int,
       e.extversion,
       n.nspname,
       pg_catalog.current_setting('timescaledb.license', true),
       pg_catalog.pg_is_in_recovery(),
       pg_catalog.current_setting('transaction_read_only')::boolean,
       pg_catalog.current_setting('server_encoding'),
       pg_catalog.current_database()::text,
       (SELECT oid::bigint FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()),
       current_user::text,
       pg_catalog.current_setting('block_size')::bigint
FROM (VALUES (1)) AS one (row)
LEFT JOIN pg_catalog.pg_extension AS e ON e.extname = 'timescaledb'
LEFT JOIN pg_catalog.pg_namespace AS n ON n.oid = e.extnamespace
