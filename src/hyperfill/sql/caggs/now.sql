-- The server's clock, to tell a bucket that has not ended yet.
SELECT pg_catalog.now()::text
