-- Times of a file as the server reads them, written as the client reads them.
SELECT {text} FROM (SELECT x::{type} AS v FROM unnest(ARRAY[{values}]::text[]) AS x) AS read
