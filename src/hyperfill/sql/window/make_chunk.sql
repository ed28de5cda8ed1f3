-- A row for each chunk that the server is to create, in the range that the server chooses; which chunks these are, if the
-- role may delete from them by themselves.
INSERT INTO {relation} ({columns}) OVERRIDING SYSTEM VALUE VALUES {rows}
RETURNING (SELECT ARRAY[n.nspname::text, c.relname::text]
           FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
           WHERE c.oid = tableoid AND pg_catalog.has_table_privilege(c.oid, 'DELETE'))
