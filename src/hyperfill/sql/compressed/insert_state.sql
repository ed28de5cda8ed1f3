-- What a chunk was before the first delete. The first note counts: a run that goes on finds our own traces.
INSERT INTO hyperfill.chunk_states (backfill_id, chunk_oid, chunk, lower, upper, status)
VALUES (%(backfill)s, %(oid)s, %(chunk)s, %(lower)s, %(upper)s, %(status)s)
ON CONFLICT DO NOTHING
