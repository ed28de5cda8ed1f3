-- Take the rows of make_chunk away again: those that this transaction wrote and no other, for a
-- dual-writer may have used the new chunk already.
-- Only where nothing was at this instant before: rows that a DELETE decompresses carry our xmin too.
-- From the chunk itself: before TimescaleDB 2.29 a DELETE from the hypertable plans and locks all chunks, 40 ms with a
-- thousand of them.
DELETE FROM {relation} AS r
WHERE {window} AND r.xmin = (pg_catalog.pg_current_xact_id()::text::numeric % 4294967296)::text::xid
