-- A session that only reads, and takes no more of its server than one core.
SELECT pg_catalog.set_config('default_transaction_read_only', 'on', false),
       pg_catalog.set_config('max_parallel_workers_per_gather', '0', false)
