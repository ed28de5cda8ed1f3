-- Policies that rewrite, drop or aggregate rows of a hypertable: its own (depth 0), and the refresh policies of the
-- continuous aggregates above it, at every level. By the hypertable's oid and never by its name; below 1000 are
-- TimescaleDB's own jobs, and in another schema than its two is somebody's procedure of the same name.
-- timescaledb_information.jobs hides the time zone, which alter_job() erases: so the table itself.
-- Times stay text: the driver cannot read -infinity.
WITH RECURSIVE level (hypertable_id, depth) AS (
    SELECT h.id, 0
    FROM _timescaledb_catalog.hypertable AS h
    JOIN pg_catalog.pg_namespace AS n ON n.nspname = h.schema_name
    JOIN pg_catalog.pg_class AS c ON c.relnamespace = n.oid AND c.relname = h.table_name
    WHERE c.oid = %(oid)s::bigint::oid
  UNION ALL
    SELECT a.mat_hypertable_id, l.depth + 1
    FROM level AS l
    JOIN _timescaledb_catalog.continuous_agg AS a ON a.raw_hypertable_id = l.hypertable_id
)
SELECT j.id,
       CASE WHEN j.proc_name = 'policy_retention' THEN 'retention'
            WHEN j.proc_name = 'policy_reorder' THEN 'reorder'
            WHEN l.depth > 0 THEN 'refresh'
            ELSE 'compression' END AS kind,
       j.proc_name::text AS proc_name,
       coalesce(a.user_view_schema, h.schema_name)::text AS schema,
       coalesce(a.user_view_name, h.table_name)::text AS name,
       j.owner::text AS owner,
       pg_catalog.pg_has_role(j.owner, 'USAGE')
           -- from 2.28 the owner of the database may as well
           OR pg_catalog.string_to_array(pg_catalog.split_part(e.extversion, '-', 1), '.')::int[] >= '{{2,28}}'
              AND pg_catalog.pg_has_role(d.datdba, 'USAGE') AS alterable,
       j.scheduled,
       j.timezone::text AS timezone,
       nullif(s.next_start, '-infinity')::text AS next_start,
       j.config,
       pg_catalog.to_jsonb(j) || pg_catalog.jsonb_build_object('next_start', s.next_start::text) AS job
FROM level AS l
JOIN {job_table} AS j ON j.hypertable_id = l.hypertable_id
JOIN _timescaledb_catalog.hypertable AS h ON h.id = l.hypertable_id
JOIN pg_catalog.pg_database AS d ON d.datname = pg_catalog.current_database()
JOIN pg_catalog.pg_extension AS e ON e.extname = 'timescaledb'
LEFT JOIN _timescaledb_catalog.continuous_agg AS a ON a.mat_hypertable_id = l.hypertable_id
LEFT JOIN _timescaledb_internal.bgw_job_stat AS s ON s.job_id = j.id
WHERE j.id >= 1000
  AND j.proc_schema IN ('_timescaledb_internal', '_timescaledb_functions')
  AND (l.depth = 0 AND j.proc_name IN ('policy_compression', 'policy_recompression', 'policy_compaction',
                                       'policy_retention', 'policy_reorder')
       OR l.depth > 0 AND j.proc_name = 'policy_refresh_continuous_aggregate')
ORDER BY j.id
