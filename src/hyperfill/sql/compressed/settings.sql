-- How a hypertable or a chunk (from 2.29) is compressed, from the catalog: the views run names together without quotes.
-- segmentby NULL: nothing was said, and the server chooses for each chunk; '{{}}': none.
SELECT s.segmentby, s.orderby, s.orderby_desc, s.orderby_nullsfirst
FROM _timescaledb_catalog.compression_settings AS s
WHERE s.relid = {oid}::pg_catalog.oid::pg_catalog.regclass
