-- One number for a row. The seed is any but 0: a floating-point zero hashes to the seed, and NULL to 0.
pg_catalog.hash_record_extended(ROW({values}), 6364136223846793005)
