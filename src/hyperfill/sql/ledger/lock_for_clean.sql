-- Windows of a backfill that a running worker holds cannot be locked: clean must not take them away.
SELECT pg_catalog.count(*) FROM (
    SELECT 1 FROM hyperfill.windows WHERE backfill_id = %s FOR UPDATE NOWAIT
) AS w
