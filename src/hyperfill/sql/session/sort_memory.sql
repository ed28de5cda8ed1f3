-- Room to sort the rows of a window, never less than the session has; and no parallel workers, of which each would take
-- as much again.
SELECT pg_catalog.set_config('work_mem', greatest(s.setting::bigint, %(kilobytes)s)::text, false),
       pg_catalog.set_config('max_parallel_workers_per_gather', '0', false)
FROM pg_catalog.pg_settings AS s WHERE s.name = 'work_mem'
