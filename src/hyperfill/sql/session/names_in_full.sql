-- No schema but the server's own on the path: a regclass, regproc, regtype, ... is printed as it is found, without a
-- schema where that is on the path, and would be read on the other server as something else of that name.
SELECT pg_catalog.set_config('search_path', 'pg_catalog', false)
