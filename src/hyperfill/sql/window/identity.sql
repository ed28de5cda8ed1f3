-- Which relation has this name, and the types of its columns.
SELECT n.oid::bigint,
       (SELECT pg_catalog.jsonb_object_agg(a.attname, pg_catalog.jsonb_build_array(a.atttypid::bigint, a.atttypmod))
        FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = n.oid AND a.attnum > 0 AND NOT a.attisdropped)
FROM (SELECT pg_catalog.to_regclass({name})::oid AS oid) AS n
