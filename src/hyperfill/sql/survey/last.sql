-- The last row of a range, through the index on the time column.
SELECT r.{column}::text FROM {relation} AS r WHERE {range} ORDER BY r.{column} DESC LIMIT 1
