-- How far a backfill is; read under the hypertable's lock.
SELECT phase FROM hyperfill.backfills WHERE id = %s
