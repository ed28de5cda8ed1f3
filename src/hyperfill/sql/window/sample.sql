-- Some rows of the source as text: patterns for the row that makes the server create a chunk.
SELECT {columns} FROM {relation} AS r WHERE r.{column} IS NOT NULL LIMIT {limit}
