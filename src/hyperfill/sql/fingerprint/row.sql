-- One number for a row. The hash of a record is linear in its columns: in a plain sum of them, two rows that swapped
-- a value with each other add up to the same in two cases of three. Hashed once more they do not. The inner seed is
-- any but 0: a floating-point zero hashes to the seed, and NULL to 0.
pg_catalog.hash_numeric_extended(pg_catalog.hash_record_extended(ROW({values}), 6364136223846793005)::numeric, 7)
