-- One number for a row. The hash of a record is linear in its columns: in a plain sum of them, two rows that swapped
-- a value with each other add up to the same in two cases of three. Hashed once more they do not.
pg_catalog.hash_numeric_extended(pg_catalog.hash_record_extended(ROW({values}), 0)::numeric, 7)
