-- Compress what is plain in a chunk, in place. The second argument: a chunk that is compressed already is no error.
SELECT {function}({oid}::pg_catalog.oid::pg_catalog.regclass, true)
