-- Rows of the target in the window.
SELECT pg_catalog.count(*) FROM {relation} AS r WHERE {window}
