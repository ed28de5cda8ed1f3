-- How many rows of a load were rejected.
SELECT pg_catalog.count(*) FROM hyperfill.rejects WHERE backfill_id = %s
