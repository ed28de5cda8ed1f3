-- The window's figures, in the transaction that moved its rows.
UPDATE hyperfill.windows
SET state = 'done', attempts = attempts + 1, rows_deleted = {deleted}, rows_copied = {copied}, bytes_copied = {bytes},
    started_at = now(), finished_at = pg_catalog.clock_timestamp(), error = NULL
WHERE backfill_id = {backfill} AND id = {window}
