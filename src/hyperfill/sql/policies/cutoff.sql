-- What a policy that goes by age works on now: chunks that end at or before the cutoff (kind "time"), or that were made
-- before it ("creation"). `after` and `before` are the names of the two in the policy's configuration. An integer axis
-- has its own clock, a function of the hypertable: query_to_xml() calls it in a plain SELECT.
SELECT CASE WHEN j.config ? %(before)s THEN 'creation' ELSE 'time' END AS kind,
       CASE WHEN j.config ? %(before)s
            THEN (now() - (j.config ->> %(before)s)::interval)::text
            WHEN d.column_type IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
            THEN (pg_catalog.xpath('/table/row/v/text()', pg_catalog.query_to_xml(
                     pg_catalog.format('SELECT %%I.%%I()::bigint - %%L::bigint AS v', d.integer_now_func_schema,
                                       d.integer_now_func, j.config ->> %(after)s),
                     false, false, '')))[1]::text
            WHEN d.column_type IN ('timestamptz'::regtype, 'uuid'::regtype)
            THEN (now() - (j.config ->> %(after)s)::interval)::text
            WHEN d.column_type = 'timestamp'::regtype
            THEN (now()::timestamp - (j.config ->> %(after)s)::interval)::text
            WHEN d.column_type = 'date'::regtype
            THEN ((now()::timestamp - (j.config ->> %(after)s)::interval)::date)::text END AS cutoff
FROM _timescaledb_catalog.hypertable AS h
JOIN {job_table} AS j ON j.hypertable_id = h.id
JOIN LATERAL (SELECT * FROM _timescaledb_catalog.dimension AS d
              WHERE d.hypertable_id = h.id AND d.interval_length IS NOT NULL ORDER BY d.id LIMIT 1) AS d ON true
WHERE h.schema_name = %(schema)s AND h.table_name = %(name)s AND j.id = %(id)s
