-- Where the target would not take a row of a file, and why. Without the row: it is the user's data.
SELECT f.path AS file, r.line, r.start, r.sqlstate, r.message
FROM hyperfill.rejects AS r
JOIN hyperfill.files AS f ON f.backfill_id = r.backfill_id AND f.id = r.file_id
WHERE r.backfill_id = %(backfill)s
ORDER BY r.file_id, r.start
LIMIT %(limit)s
