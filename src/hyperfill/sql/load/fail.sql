-- A batch that was rolled back, and why. Not if somebody else has loaded it since.
INSERT INTO hyperfill.batches (backfill_id, file_id, start, length, line, xxh3, state, rows_read, error)
VALUES (%(backfill)s, %(file)s, %(start)s, %(length)s, %(line)s, %(xxh3)s, 'failed', %(rows)s, %(error)s)
ON CONFLICT (backfill_id, file_id, start) DO UPDATE SET error = excluded.error
WHERE hyperfill.batches.state = 'failed'
