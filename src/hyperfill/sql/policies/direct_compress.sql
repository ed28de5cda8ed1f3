-- Whether a hypertable lands rows compressed whatever the session says (tsdb.direct_compress, from 2.29).
SELECT h.status & 8 <> 0
FROM _timescaledb_catalog.hypertable AS h
WHERE h.schema_name = %(schema)s AND h.table_name = %(name)s
