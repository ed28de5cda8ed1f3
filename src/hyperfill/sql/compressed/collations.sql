-- Columns of a relation whose values are compared by a collation: whether values that are equal are also the same bytes
-- (deterministic), and whether it sorts by bytes. The database's own collation counts where a column has the default.
SELECT a.attname::text,
       k.collisdeterministic,
       CASE WHEN k.collprovider = 'd' THEN d.provider IN ('b', 'c') AND d.locale IN ('C', 'POSIX')
            ELSE k.collprovider IN ('b', 'c') AND coalesce(k.locale, '') IN ('C', 'POSIX') END
FROM pg_catalog.pg_attribute AS a
JOIN (SELECT oid, collisdeterministic, collprovider,
             -- The column moved from collcollate to colllocale for the built-in provider (17).
             coalesce(pg_catalog.to_jsonb(c) ->> 'colllocale', pg_catalog.to_jsonb(c) ->> 'collcollate') AS locale
      FROM pg_catalog.pg_collation AS c) AS k ON k.oid = a.attcollation
CROSS JOIN (SELECT coalesce(pg_catalog.to_jsonb(b) ->> 'datlocprovider', 'c') AS provider,
                   CASE WHEN coalesce(pg_catalog.to_jsonb(b) ->> 'datlocprovider', 'c') = 'c'
                        THEN b.datcollate ELSE pg_catalog.to_jsonb(b) ->> 'datlocale' END AS locale
            FROM pg_catalog.pg_database AS b WHERE b.datname = pg_catalog.current_database()) AS d
WHERE a.attrelid = %s::bigint::oid AND a.attnum > 0 AND NOT a.attisdropped
