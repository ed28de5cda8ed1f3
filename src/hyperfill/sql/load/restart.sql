-- A load of standard input with a range begins anew: its range is cleared again, so what it had loaded goes as well.
WITH batches AS (
    DELETE FROM hyperfill.batches WHERE backfill_id = %(id)s
), windows AS (
    UPDATE hyperfill.windows SET state = 'pending', attempts = 0, rows_deleted = NULL, rows_copied = NULL,
        bytes_copied = NULL, error = NULL
    WHERE backfill_id = %(id)s
)
UPDATE hyperfill.backfills SET phase = 'held' WHERE id = %(id)s
