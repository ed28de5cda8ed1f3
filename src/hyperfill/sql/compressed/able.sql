-- What decides whether rows of a hypertable can be written compressed, and whether its chunks can be compressed:
-- whether the columnstore is on; whether the catalog is the one that is known (from 2.13); whether chunks are merged;
-- whether this role may act for the owner; whether the setting for direct compression exists; and what makes the server
-- decline it, some of it without a word: unique and exclusion constraints, triggers (of foreign keys too), virtual
-- generated columns. Whether the hypertable as a whole was ever analyzed, and whether the server is one that chooses
-- segmentby by that.
SELECT i.compression_enabled AND pg_catalog.to_regclass('_timescaledb_catalog.compression_settings') IS NOT NULL,
       EXISTS (SELECT FROM _timescaledb_catalog.dimension AS d
               WHERE d.hypertable_id = h.id AND d.compress_interval_length IS NOT NULL),
       pg_catalog.pg_has_role(c.relowner, 'USAGE'),
       pg_catalog.current_setting('timescaledb.enable_direct_compress_copy_client_sorted', true) IS NOT NULL,
       EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = c.oid AND i.indisunique),
       EXISTS (SELECT FROM pg_catalog.pg_index AS i WHERE i.indrelid = c.oid AND i.indisexclusion),
       EXISTS (SELECT FROM pg_catalog.pg_trigger AS t
               WHERE t.tgrelid = c.oid AND t.tgname NOT IN ('ts_insert_blocker', 'ts_cagg_invalidation_trigger')),
       EXISTS (SELECT FROM pg_catalog.pg_attribute AS a
               WHERE a.attrelid = c.oid AND a.attgenerated NOT IN ('', 's') AND NOT a.attisdropped),
       EXISTS (SELECT FROM pg_catalog.pg_stats AS s
               WHERE s.schemaname = h.schema_name AND s.tablename = h.table_name AND s.inherited),
       pg_catalog.to_regproc('_timescaledb_functions.get_segmentby_defaults') IS NOT NULL
FROM _timescaledb_catalog.hypertable AS h
JOIN timescaledb_information.hypertables AS i
    ON i.hypertable_schema = h.schema_name AND i.hypertable_name = h.table_name
JOIN pg_catalog.pg_namespace AS n ON n.nspname = h.schema_name
JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = h.table_name
WHERE c.oid = %(oid)s::bigint::oid
