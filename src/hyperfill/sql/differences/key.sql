-- The columns of the primary key, or of a unique index over plain columns that are never null: the smallest of those.
SELECT pg_catalog.array_agg(a.attname::text ORDER BY k.position)
FROM pg_catalog.pg_index AS i
CROSS JOIN LATERAL pg_catalog.unnest(i.indkey::int[]) WITH ORDINALITY AS k (attnum, position)
JOIN pg_catalog.pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND a.attnotnull
WHERE i.indrelid = {oid}::oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
  AND k.position < i.indnkeyatts + 1
GROUP BY i.indexrelid, i.indisprimary, i.indnkeyatts
HAVING pg_catalog.count(*) = i.indnkeyatts
ORDER BY i.indisprimary DESC, i.indnkeyatts
LIMIT 1
