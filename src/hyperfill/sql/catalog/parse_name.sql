-- A name as SQL reads it: unquoted parts folded to lower case, doubled quotes undone.
SELECT pg_catalog.parse_ident(%s)
