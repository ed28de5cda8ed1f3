-- A sample of whole pages: bounded cost however large the table, and no statistics needed.
SELECT r.{column}::text FROM {relation} AS r TABLESAMPLE SYSTEM ({percent}) WHERE r.{column} IS NOT NULL LIMIT 30000
