-- The figures of a batch, in the transaction that loaded its rows. And the chunks into which they went: those that
-- this transaction has locked for writing.
UPDATE hyperfill.batches
SET rows_copied = %(copied)s, rows_skipped = %(skipped)s, rows_outside = %(outside)s, rows_rejected = %(rejected)s,
    encoded = %(encoded)s, finished_at = pg_catalog.clock_timestamp(),
    chunks = ARRAY(
        SELECT DISTINCT l.relation
        FROM pg_catalog.pg_locks AS l JOIN pg_catalog.pg_inherits AS i ON i.inhrelid = l.relation
        WHERE l.pid = pg_catalog.pg_backend_pid() AND l.locktype = 'relation' AND l.mode = 'RowExclusiveLock'
          AND i.inhparent = %(relation)s::oid
    )
WHERE backfill_id = %(backfill)s AND file_id = %(file)s AND start = %(start)s
