-- Staged rows into the target, in the order of the file.
INSERT INTO {relation} ({columns}) OVERRIDING SYSTEM VALUE
SELECT {columns} FROM pg_temp.hyperfill_stage WHERE {where} ORDER BY {number} {conflict}
