-- Windows as they were compared now, in place of what was found before.
INSERT INTO hyperfill.comparisons
    (backfill_id, window_id, mode, source_rows, target_rows, source_hash, target_hash, equal)
SELECT %(backfill)s, c.window_id, %(mode)s, c.source_rows, c.target_rows, c.source_hash, c.target_hash, c.equal
FROM pg_catalog.jsonb_to_recordset(%(results)s)
     AS c (window_id int, source_rows bigint, target_rows bigint, source_hash numeric, target_hash numeric, equal boolean)
ON CONFLICT (backfill_id, window_id) DO UPDATE
SET mode = excluded.mode, source_rows = excluded.source_rows, target_rows = excluded.target_rows,
    source_hash = excluded.source_hash, target_hash = excluded.target_hash, equal = excluded.equal,
    compared_at = pg_catalog.clock_timestamp()
