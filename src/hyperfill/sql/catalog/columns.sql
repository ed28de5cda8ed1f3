-- Columns of a relation, without dropped ones, and what their types are made of.
-- `walk` follows domains to their base, arrays to their element, ranges to their subtype, so that one
-- flag says whether COPY BINARY means the same on another server: every type on the way has send and
-- receive functions, none travels as an OID of this database (reg*, elements of arrays and composites
-- that initdb did not make), and none depends on session settings (xml, money).
WITH RECURSIVE walk (attnum, typid, depth, in_array) AS (
    SELECT a.attnum, a.atttypid, 0, false
    FROM pg_catalog.pg_attribute AS a
    WHERE a.attrelid = %(oid)s::oid AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT w.attnum, s.typid, w.depth + 1, s.in_array
    FROM walk AS w
    JOIN pg_catalog.pg_type AS t ON t.oid = w.typid
    CROSS JOIN LATERAL (
        SELECT t.typbasetype, w.in_array WHERE t.typtype = 'd'
        UNION ALL
        SELECT t.typelem, true WHERE t.typtype = 'b' AND t.typcategory = 'A' AND t.typelem <> 0
        UNION ALL
        SELECT r.rngsubtype, w.in_array FROM pg_catalog.pg_range AS r WHERE r.rngtypid = t.oid
    ) AS s (typid, in_array)
), binary_safe AS (
    SELECT w.attnum,
           pg_catalog.bool_and(
               t.typsend <> 0 AND t.typreceive <> 0
               AND t.typtype NOT IN ('c', 'p')
               AND (t.typtype <> 'm' OR t.oid < 16384)
               AND NOT (w.in_array AND t.oid >= 16384)
               AND t.typname NOT LIKE 'reg%%'
               AND t.typname NOT IN ('xml', 'money', 'pg_snapshot', 'txid_snapshot')) AS ok
    FROM walk AS w JOIN pg_catalog.pg_type AS t ON t.oid = w.typid
    GROUP BY w.attnum
), base (attnum, typid, typmod) AS (
    -- The base of a domain, with the modifier that the innermost domain gave it.
    SELECT b.attnum, b.typid, b.typmod
    FROM (
        WITH RECURSIVE d (attnum, typid, typmod) AS (
            SELECT a.attnum, a.atttypid, a.atttypmod
            FROM pg_catalog.pg_attribute AS a
            WHERE a.attrelid = %(oid)s::oid AND a.attnum > 0 AND NOT a.attisdropped
            UNION ALL
            SELECT d.attnum, t.typbasetype, t.typtypmod
            FROM d JOIN pg_catalog.pg_type AS t ON t.oid = d.typid AND t.typtype = 'd'
        ) SELECT * FROM d
    ) AS b
    JOIN pg_catalog.pg_type AS t ON t.oid = b.typid AND t.typtype <> 'd'
)
SELECT a.attname::text AS name,
       pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
       bt.typname::text AS base,
       bt.oid::bigint < 16384 AS builtin,
       b.typmod AS typmod,
       pg_catalog.format_type(b.typid, b.typmod) AS base_type,
       (SELECT pg_catalog.array_agg(e.enumlabel::text ORDER BY e.enumsortorder)
        FROM pg_catalog.pg_enum AS e
        WHERE e.enumtypid IN (b.typid, bt.typelem)) AS labels,
       s.ok AS binary_safe,
       a.attnotnull AS not_null,
       a.attgenerated <> '' AS generated,
       a.attidentity::text AS identity,
       CASE WHEN a.attgenerated = '' THEN pg_catalog.pg_get_expr(ad.adbin, ad.adrelid) END AS default_expression,
       -- Whether the default calls a function that somebody wrote down (funcformat 0, not a cast's), asks for
       -- the time or takes the next value of a sequence: the server's own doing, anew for every row.
       coalesce(ad.adbin::text ~ ':funcformat 0|SQLVALUEFUNCTION|NEXTVALUEEXPR', false) AS default_computed,
       seq.oid::bigint AS sequence_oid,
       pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'SELECT') AS selectable,
       pg_catalog.has_column_privilege(a.attrelid, a.attnum, 'INSERT') AS insertable
FROM pg_catalog.pg_attribute AS a
JOIN base AS b ON b.attnum = a.attnum
JOIN pg_catalog.pg_type AS bt ON bt.oid = b.typid
JOIN binary_safe AS s ON s.attnum = a.attnum
LEFT JOIN pg_catalog.pg_attrdef AS ad ON ad.adrelid = a.attrelid AND ad.adnum = a.attnum
-- Identity and serial sequences belong to the column; a plain DEFAULT nextval() depends on its sequence.
LEFT JOIN LATERAL (
    SELECT c.oid
    FROM pg_catalog.pg_depend AS d
    JOIN pg_catalog.pg_class AS c ON c.relkind = 'S'
        AND c.oid = CASE WHEN d.classid = 'pg_catalog.pg_class'::regclass THEN d.objid ELSE d.refobjid END
    WHERE d.refclassid = 'pg_catalog.pg_class'::regclass
      AND (d.classid = 'pg_catalog.pg_class'::regclass AND d.refobjid = a.attrelid
               AND d.refobjsubid = a.attnum AND d.deptype IN ('a', 'i')
           OR d.classid = 'pg_catalog.pg_attrdef'::regclass AND d.objid = ad.oid AND d.deptype = 'n')
    ORDER BY d.classid = 'pg_catalog.pg_class'::regclass DESC
    LIMIT 1
) AS seq ON true
WHERE a.attrelid = %(oid)s::oid AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
