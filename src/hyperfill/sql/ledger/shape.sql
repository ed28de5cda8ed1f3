-- What is in schema hyperfill, from the catalog alone: a view, a trigger, a default of somebody else's would run with
-- the rights of whoever meets it, so this is asked before anything of the schema is read. What runs there and is not
-- the server's own is in pg_depend, where pinned objects never are. No row: there is no such schema.
WITH expected (name, columns) AS (
    VALUES
    ('ledger', '{one boolean,version integer,created_at timestamp with time zone}'::text[]),
    ('backfills', '{id bigint,kind text,hypertable text,hypertable_oid oid,source text,source_relation text,'
        'time_type text,time_column text,source_time_column text,range_start text,range_end text,columns jsonb,'
        'settings jsonb,phase text,planned_at timestamp with time zone,started_at timestamp with time zone,'
        'finished_at timestamp with time zone,runs integer,planned_by text,client text,versions jsonb,findings jsonb}'),
    ('windows', '{backfill_id bigint,id integer,lower text,upper text,estimate bigint,state text,attempts integer,'
        'may_lose bigint,rows_deleted bigint,rows_copied bigint,bytes_copied bigint,'
        'started_at timestamp with time zone,finished_at timestamp with time zone,error jsonb}'),
    ('comparisons', '{backfill_id bigint,window_id integer,mode text,source_rows bigint,target_rows bigint,'
        'source_hash numeric,target_hash numeric,equal boolean,compared_at timestamp with time zone}'),
    ('files', '{backfill_id bigint,id integer,path text,size bigint,content_bytes bigint}'),
    ('batches', '{backfill_id bigint,file_id integer,start bigint,length bigint,line bigint,xxh3 bytea,state text,'
        'rows_read bigint,rows_copied bigint,rows_skipped bigint,rows_outside bigint,rows_rejected bigint,'
        'encoded text,chunks oid[],started_at timestamp with time zone,finished_at timestamp with time zone,'
        'error jsonb}'),
    ('rejects', '{backfill_id bigint,file_id integer,batch bigint,start bigint,line bigint,row bytea,sqlstate text,'
        'message text}'),
    ('holds', '{id bigint,hypertable_oid oid,hypertable text,relation text,job_id integer,kind text,job jsonb,'
        'held_at timestamp with time zone,held_by text,released_at timestamp with time zone,outcome text}'),
    ('hold_users', '{hold_id bigint,backfill_id bigint,since timestamp with time zone}'),
    ('chunk_states', '{backfill_id bigint,chunk_oid oid,chunk text,lower text,upper text,status integer,'
        'recompressed_at timestamp with time zone}'),
    ('conversions', '{backfill_id bigint,id integer,lower text,upper text,first_window integer,last_window integer,'
        'direct boolean,state text,written boolean,finished_at timestamp with time zone}'),
    ('aggregates', '{backfill_id bigint,id integer,view text,level integer,held jsonb,watermark text}'),
    ('refreshes', '{backfill_id bigint,id integer,aggregate integer,view text,level integer,lower text,upper text,'
        'left_out text,done_at timestamp with time zone}')
), relation AS (
    SELECT c.oid, c.relname::text AS name, c.relkind, c.relhasrules, c.relrowsecurity
    FROM pg_catalog.pg_class AS c
    JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
    JOIN expected AS e ON e.name = c.relname
    WHERE n.nspname = 'hyperfill'
), part (relation, classid, objid) AS (
    SELECT r.name, 'pg_catalog.pg_class'::regclass, r.oid FROM relation AS r
  UNION ALL
    SELECT r.name, 'pg_catalog.pg_class'::regclass, i.indexrelid
    FROM relation AS r JOIN pg_catalog.pg_index AS i ON i.indrelid = r.oid
  UNION ALL
    SELECT r.name, 'pg_catalog.pg_attrdef'::regclass, d.oid
    FROM relation AS r JOIN pg_catalog.pg_attrdef AS d ON d.adrelid = r.oid
  UNION ALL
    SELECT r.name, 'pg_catalog.pg_constraint'::regclass, k.oid
    FROM relation AS r JOIN pg_catalog.pg_constraint AS k ON k.conrelid = r.oid
  UNION ALL
    SELECT r.name, 'pg_catalog.pg_statistic_ext'::regclass, s.oid
    FROM relation AS r JOIN pg_catalog.pg_statistic_ext AS s ON s.stxrelid = r.oid
), wrong (text) AS (
    SELECT name || ' is no ordinary table' FROM relation WHERE relkind <> 'r'
  UNION ALL
    SELECT name || ' has rules' FROM relation WHERE relkind = 'r' AND relhasrules
  UNION ALL
    SELECT name || ' has row-level security' FROM relation WHERE relrowsecurity
  UNION ALL
    SELECT r.name || ' has child tables' FROM relation AS r
    WHERE EXISTS (SELECT FROM pg_catalog.pg_inherits AS i WHERE i.inhparent = r.oid)
  UNION ALL
    SELECT r.name || ' has trigger ' || pg_catalog.quote_ident(t.tgname)
    FROM relation AS r JOIN pg_catalog.pg_trigger AS t ON t.tgrelid = r.oid
    WHERE NOT t.tgisinternal
  UNION ALL
    SELECT DISTINCT p.relation || ' uses ' || pg_catalog.pg_describe_object(d.refclassid, d.refobjid, d.refobjsubid)
    FROM part AS p JOIN pg_catalog.pg_depend AS d ON d.classid = p.classid AND d.objid = p.objid
    WHERE d.refclassid IN ('pg_catalog.pg_proc'::regclass, 'pg_catalog.pg_operator'::regclass,
                           'pg_catalog.pg_type'::regclass)
), missing (name, text) AS (
    SELECT e.name, e.name || CASE WHEN r.oid IS NULL THEN '' ELSE '.' || column_ END
    FROM expected AS e
    LEFT JOIN relation AS r ON r.name = e.name
    CROSS JOIN LATERAL (
        SELECT pg_catalog.unnest(CASE WHEN r.oid IS NULL THEN e.columns[1:1] ELSE e.columns END)
      EXCEPT
        SELECT a.attname || ' ' || pg_catalog.format_type(a.atttypid, a.atttypmod)
        FROM pg_catalog.pg_attribute AS a
        WHERE a.attrelid = r.oid AND a.attnum > 0 AND NOT a.attisdropped
    ) AS m (column_)
)
SELECT coalesce((SELECT pg_catalog.array_agg(text ORDER BY text) FROM wrong), '{}'),
       coalesce((SELECT pg_catalog.array_agg(text ORDER BY text) FROM missing), '{}'),
       NOT EXISTS (SELECT FROM missing WHERE name = 'ledger')
FROM pg_catalog.pg_namespace AS n
WHERE n.nspname = 'hyperfill'
