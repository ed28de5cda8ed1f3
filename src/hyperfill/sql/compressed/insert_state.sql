-- What a chunk was before the first delete. The first note counts: a run that goes on finds our own traces, and so
-- does the backfill of the next range, where the one before it ended inside the chunk and left it partial.
INSERT INTO hyperfill.chunk_states (backfill_id, chunk_oid, chunk, lower, upper, status)
VALUES (%(backfill)s, %(oid)s, %(chunk)s, %(lower)s, %(upper)s,
        coalesce((SELECT s.status FROM hyperfill.chunk_states AS s
                  WHERE s.chunk_oid = %(oid)s::oid AND s.chunk = %(chunk)s AND s.recompressed_at IS NULL
                  ORDER BY s.backfill_id LIMIT 1),
                 %(status)s))
ON CONFLICT DO NOTHING
