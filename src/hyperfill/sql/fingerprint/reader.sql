-- A session that compares: it writes nothing, and works with one process, so that --jobs is what the servers feel.
-- Compiling costs 0.15 s for each window and saves nothing: the time goes into functions that are compiled already.
SELECT pg_catalog.set_config('default_transaction_read_only', 'on', false),
       pg_catalog.set_config('max_parallel_workers_per_gather', '0', false),
       pg_catalog.set_config('jit', 'off', false)
