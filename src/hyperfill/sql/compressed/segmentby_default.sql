-- Which columns the server would choose for segmentby now, by its statistics. Only asked where nothing was said.
SELECT ARRAY(SELECT pg_catalog.jsonb_array_elements_text(d.found -> 'columns'))
FROM (SELECT _timescaledb_functions.get_segmentby_defaults(%s::bigint::oid::pg_catalog.regclass) AS found) AS d
