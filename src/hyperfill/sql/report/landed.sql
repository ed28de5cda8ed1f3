-- Stretches, each a chunk, that were to end compressed: whether they were planned to be written so by one window, and
-- whether they were (NULL: not compressed yet).
SELECT lower, upper, direct, written, finished_at
FROM hyperfill.conversions WHERE backfill_id = %s ORDER BY id
