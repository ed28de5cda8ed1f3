-- The same where a server cannot hash records (PostgreSQL before 14).
pg_catalog.hashtextextended(ROW({values})::text COLLATE "C", 7)
