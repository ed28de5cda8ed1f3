-- The rows of a range, each as one number and its key.
SELECT {hash}, ARRAY[{key}]::text[] FROM {relation} AS r WHERE {range}
