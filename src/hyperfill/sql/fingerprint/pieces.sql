-- The same for neighbouring pieces of a range, in one pass: pieces are numbered from 0, {edges} are where all but the
-- first begin: a literal of that type, for a cast of texts would be computed anew for every row.
SELECT h.piece, pg_catalog.count(*), pg_catalog.sum(pg_catalog.hashint8extended(h.hash, h.hash))::text
FROM (SELECT pg_catalog.width_bucket(r.{column}::{type}, {edges}::{type}[]) AS piece, {hash} AS hash
      FROM {relation} AS r
      WHERE {range} OFFSET 0) AS h
GROUP BY h.piece
