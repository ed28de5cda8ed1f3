-- An aggregate as it was before the first write. The first note counts.
INSERT INTO hyperfill.aggregates (backfill_id, id, view, level, held, watermark)
VALUES (%(backfill)s, %(id)s, %(view)s, %(level)s, %(held)s, %(watermark)s)
ON CONFLICT DO NOTHING
