-- Some rows of the source as text: patterns for the row that makes the server create a chunk. Of a few,
-- the smallest: pg_column_size() does not fetch what is stored out of line.
SELECT {columns}
FROM (SELECT {names} FROM {relation} AS t WHERE t.{column} IS NOT NULL LIMIT {limit}) AS r
ORDER BY {size}
LIMIT {limit}
