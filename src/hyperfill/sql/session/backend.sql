-- The process that answers. What libpq was told on connecting is another number where a pooler answered then.
-- A timeout that somebody set for the role may be over before a session's first look at a catalog; LOCAL, because the
-- session may be somebody else's: nothing is left behind.
SET LOCAL statement_timeout = 0;
SELECT pg_catalog.pg_backend_pid()
