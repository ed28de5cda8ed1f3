-- How many windows are neither done nor failed.
SELECT pg_catalog.count(*) FROM hyperfill.windows WHERE backfill_id = %s AND state = 'pending'
