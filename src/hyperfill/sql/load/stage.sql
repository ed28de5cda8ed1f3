-- Rows of a batch before they go into the target, with the target's types and their number in the batch. Without
-- constraints: those are the target's business.
CREATE TEMPORARY TABLE hyperfill_stage ON COMMIT DROP AS SELECT {columns} FROM {relation} WITH NO DATA;
ALTER TABLE pg_temp.hyperfill_stage ADD COLUMN {number} bigint GENERATED ALWAYS AS IDENTITY
