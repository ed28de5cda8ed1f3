-- The server's own names come first, whatever a role's path says: an operator or a type in another schema
-- could otherwise stand in for them in every statement. The user's path stays behind it, for conditions,
-- defaults and triggers.
SELECT pg_catalog.set_config('search_path',
    pg_catalog.concat_ws(', ', 'pg_catalog', NULLIF(pg_catalog.current_setting('search_path'), '')), false)
