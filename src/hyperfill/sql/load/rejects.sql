-- All rejected rows of a load in the order of its files.
SELECT f.path, f.id, r.line, r.start, r.sqlstate, r.message, r.row
FROM hyperfill.rejects AS r JOIN hyperfill.files AS f ON f.backfill_id = r.backfill_id AND f.id = r.file_id
WHERE r.backfill_id = %s ORDER BY r.file_id, r.start
