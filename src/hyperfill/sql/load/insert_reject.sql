-- A row that the target would not take.
INSERT INTO hyperfill.rejects (backfill_id, file_id, batch, start, line, row, sqlstate, message)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
