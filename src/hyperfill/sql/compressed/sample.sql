-- Some row of a chunk, as text.
SELECT {columns} FROM {chunk} AS r WHERE {window} LIMIT 1
