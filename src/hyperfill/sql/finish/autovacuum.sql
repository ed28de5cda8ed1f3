-- Whether autovacuum will analyze the chunks of a hypertable, which have its storage options.
SELECT pg_catalog.current_setting('autovacuum')::bool AND pg_catalog.current_setting('track_counts')::bool
    AND coalesce((
        SELECT o.option_value::bool
        FROM pg_catalog.pg_class AS c, pg_catalog.pg_options_to_table(c.reloptions) AS o
        WHERE c.oid = %(oid)s::oid AND o.option_name = 'autovacuum_enabled'
    ), true)
