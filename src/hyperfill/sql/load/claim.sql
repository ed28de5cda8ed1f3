-- A batch is this transaction's, unless it is loaded already: no row comes back then. Whoever is loading it at this
-- moment is waited for, because the key is the same.
INSERT INTO hyperfill.batches (backfill_id, file_id, start, length, line, xxh3, state, rows_read)
VALUES (%(backfill)s, %(file)s, %(start)s, %(length)s, %(line)s, %(xxh3)s, 'done', %(rows)s)
ON CONFLICT (backfill_id, file_id, start) DO UPDATE
SET state = 'done', error = NULL, length = excluded.length, line = excluded.line, xxh3 = excluded.xxh3,
    rows_read = excluded.rows_read, started_at = now()
WHERE hyperfill.batches.state = 'failed'
RETURNING 1
