-- Staged rows outside of the range: how many, and the numbers of the first.
SELECT count(*), (array_agg({number} ORDER BY {number}))[1:20]
FROM pg_temp.hyperfill_stage WHERE ({where}) IS FALSE
