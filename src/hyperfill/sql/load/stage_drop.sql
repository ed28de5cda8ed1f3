-- What a former part of this batch has left.
DROP TABLE IF EXISTS pg_temp.hyperfill_stage
