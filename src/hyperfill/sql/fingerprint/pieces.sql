-- The same for neighbouring pieces of a range, in one pass: pieces are numbered from 0, {edges} are where all but the
-- first begin: a literal of that type, for a cast of texts would be computed anew for every row.
SELECT pg_catalog.width_bucket(r.{column}::{type}, {edges}::{type}[]), pg_catalog.count(*),
       pg_catalog.sum({hash})::text
FROM {relation} AS r
WHERE {range}
GROUP BY 1
