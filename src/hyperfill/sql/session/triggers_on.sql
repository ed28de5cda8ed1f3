-- Triggers, foreign keys and the invalidation of continuous aggregates work, whatever somebody set for the role: a run
-- without them is asked for by --triggers off. Where it is as it should be nothing is set, which not every role may.
SELECT pg_catalog.set_config('session_replication_role', 'origin', false)
WHERE pg_catalog.current_setting('session_replication_role') <> 'origin'
