-- Rows of a range by their numbers: values, cut to what can be read, and the hash of each.
SELECT h.hash, h.shown, h.hashes
FROM (SELECT {hash} AS hash, ARRAY[{shown}]::text[] AS shown, ARRAY[{hashes}]::bigint[] AS hashes
      FROM {relation} AS r WHERE {range}) AS h
WHERE h.hash = ANY ({wanted}::bigint[])
LIMIT {limit}
