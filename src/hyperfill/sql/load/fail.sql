-- A batch that was rolled back, and why. Not if somebody else has loaded it since.
INSERT INTO hyperfill.batches (backfill_id, file_id, start, length, line, sha256, state, rows_read, error)
VALUES (%(backfill)s, %(file)s, %(start)s, %(length)s, %(line)s, %(sha256)s, 'failed', %(rows)s, %(error)s)
ON CONFLICT (backfill_id, file_id, start) DO UPDATE SET error = excluded.error
WHERE hyperfill.batches.state = 'failed'
