-- The first row of a range, through the index on the time column. ORDER BY and LIMIT rather than min():
-- on partitioned tables and hypertables min() may read every child.
SELECT r.{column}::text FROM {relation} AS r WHERE {range} ORDER BY r.{column} LIMIT 1
