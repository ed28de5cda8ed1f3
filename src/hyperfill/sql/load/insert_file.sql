-- A file of a load, as it was when the load began.
INSERT INTO hyperfill.files (backfill_id, id, path, size, content_bytes) VALUES (%s, %s, %s, %s, %s)
