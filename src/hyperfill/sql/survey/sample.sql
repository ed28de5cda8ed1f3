-- A sample of whole pages: bounded cost however large the table, and no statistics needed. No LIMIT: pages
-- come in their order, and the end of the table would be missing.
SELECT r.{column}::text FROM {relation} AS r TABLESAMPLE SYSTEM ({percent})
