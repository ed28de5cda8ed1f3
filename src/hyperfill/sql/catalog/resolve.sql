-- Relations of this name that can be selected from; with no schema, in every schema but the servers' own.
-- Compared as text: a cast to name would cut the argument at 63 bytes and find another relation.
SELECT c.oid::bigint, n.nspname::text, c.relname::text, c.relkind::text
FROM pg_catalog.pg_class AS c
JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
WHERE c.relname::text = %(name)s
  AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
  AND (n.nspname::text = %(schema)s
       OR %(schema)s::text IS NULL
          AND n.nspname NOT IN ('pg_catalog', 'information_schema')
          AND n.nspname NOT LIKE 'pg\_%%'
          AND n.nspname NOT LIKE '\_timescaledb\_%%'
          AND n.nspname NOT LIKE 'timescaledb\_%%')
ORDER BY n.nspname
