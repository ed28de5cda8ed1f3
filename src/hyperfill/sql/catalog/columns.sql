-- Columns of a relation, without dropped ones. Their types are described by types.sql.
SELECT a.attname::text AS name,
       pg_catalog.format_type(a.atttypid, a.atttypmod) AS type,
       a.atttypid::bigint AS type_oid,
       a.atttypmod AS typmod,
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
