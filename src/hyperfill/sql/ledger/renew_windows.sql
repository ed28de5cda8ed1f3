-- Before the windows of an unfinished repair are chosen anew: what it has not moved goes, and what follows the moving
-- is done again when all of it is moved. Returns where numbering goes on.
WITH pending AS (
    DELETE FROM hyperfill.windows WHERE backfill_id = %(id)s AND state <> 'done'
), compared AS (
    DELETE FROM hyperfill.comparisons WHERE backfill_id = %(id)s
), refreshes AS (
    DELETE FROM hyperfill.refreshes WHERE backfill_id = %(id)s
), chunks AS (
    UPDATE hyperfill.chunk_states SET recompressed_at = NULL WHERE backfill_id = %(id)s
), backfill AS (
    UPDATE hyperfill.backfills SET phase = 'planned' WHERE id = %(id)s
)
SELECT coalesce(pg_catalog.max(w.id), 0) + 1 FROM hyperfill.windows AS w WHERE w.backfill_id = %(id)s
