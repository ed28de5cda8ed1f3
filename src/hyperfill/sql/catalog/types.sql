-- The types of a relation's columns and every type they are made of: bases of domains, elements of
-- arrays, subtypes of ranges, fields of composites.
WITH RECURSIVE walk (typid) AS (
    SELECT a.atttypid FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = %(oid)s::oid AND a.attnum > 0 AND NOT a.attisdropped
    UNION
    SELECT s.typid
    FROM walk AS w
    JOIN pg_catalog.pg_type AS t ON t.oid = w.typid
    CROSS JOIN LATERAL (
        SELECT t.typbasetype WHERE t.typtype = 'd'
        UNION ALL
        SELECT t.typelem WHERE t.typcategory = 'A' AND t.typelem <> 0
        UNION ALL
        SELECT r.rngsubtype FROM pg_catalog.pg_range AS r WHERE r.rngtypid = t.oid
        UNION ALL
        -- The range of a multirange; the column is named in JSON only, older servers do not have it.
        SELECT r.rngtypid FROM pg_catalog.pg_range AS r
        WHERE t.typtype = 'm' AND (pg_catalog.to_jsonb(r) ->> 'rngmultitypid')::oid = t.oid
        UNION ALL
        SELECT f.atttypid FROM pg_catalog.pg_attribute AS f
        WHERE t.typtype = 'c' AND f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped
    ) AS s (typid)
)
SELECT t.oid::bigint AS oid,
       t.typname::text AS name,
       t.typtype::text AS kind,
       t.typcategory = 'A' AND t.typelem <> 0 AS is_array,
       t.typsend <> 0 AND t.typreceive <> 0 AS has_binary,
       CASE t.typtype
           WHEN 'd' THEN t.typbasetype
           WHEN 'r' THEN (SELECT r.rngsubtype FROM pg_catalog.pg_range AS r WHERE r.rngtypid = t.oid)
           WHEN 'm' THEN (SELECT r.rngtypid FROM pg_catalog.pg_range AS r
                          WHERE (pg_catalog.to_jsonb(r) ->> 'rngmultitypid')::oid = t.oid)
           ELSE t.typelem
       END::bigint AS inner_oid,
       t.typtypmod AS inner_typmod,
       (SELECT pg_catalog.array_agg(e.enumlabel::text ORDER BY e.enumsortorder)
        FROM pg_catalog.pg_enum AS e WHERE e.enumtypid = t.oid) AS labels,
       (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_array(f.attname::text, f.atttypid::bigint, f.atttypmod)
                                    ORDER BY f.attnum)
        FROM pg_catalog.pg_attribute AS f
        WHERE t.typtype = 'c' AND f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped) AS fields
FROM (SELECT DISTINCT typid FROM walk) AS w
JOIN pg_catalog.pg_type AS t ON t.oid = w.typid
