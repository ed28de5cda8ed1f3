-- Whether the indexes that begin with a column have its newest value first; no row where there is none, or both kinds.
SELECT pg_catalog.bool_and(i.indoption[0] & 1 = 1)
FROM pg_catalog.pg_index AS i
JOIN pg_catalog.pg_class AS c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_am AS m ON m.oid = c.relam
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
WHERE i.indrelid = %(oid)s::oid AND i.indisvalid AND m.amname = 'btree' AND a.attname::text = %(column)s
HAVING pg_catalog.bool_and(i.indoption[0] & 1 = 1) = pg_catalog.bool_or(i.indoption[0] & 1 = 1)
