-- What a chunk was before the first delete. The first note counts: a run that goes on finds our own traces, and so
-- does the backfill of the next range, where the one before it ended inside the chunk and left it partial (8) or
-- unordered (2). A chunk that is in order now is what it is, whatever an earlier note says.
INSERT INTO hyperfill.chunk_states (backfill_id, chunk_oid, chunk, lower, upper, status)
VALUES (%(backfill)s, %(oid)s, %(chunk)s, %(lower)s, %(upper)s,
        CASE WHEN %(status)s::int & 10 = 0 THEN %(status)s::int
             ELSE coalesce((SELECT s.status FROM hyperfill.chunk_states AS s
                            WHERE s.chunk_oid = %(oid)s::oid AND s.chunk = %(chunk)s
                              AND s.recompressed_at IS NULL AND s.status & 10 = 0
                            ORDER BY s.backfill_id LIMIT 1),
                           %(status)s::int) END)
ON CONFLICT DO NOTHING
