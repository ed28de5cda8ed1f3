-- Which cells of the grid hold rows, in one scan: for a source without an index on the time column.
SELECT DISTINCT {cell}::text FROM {relation} AS r WHERE {range}
