-- A backfill and, by the foreign key, its windows.
DELETE FROM hyperfill.backfills WHERE id = %s
