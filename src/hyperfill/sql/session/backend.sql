-- The process that answers. What libpq was told on connecting is another number where a pooler answered then.
SELECT pg_catalog.pg_backend_pid()
