-- How this database, for this role, reads times, whatever the session was set to.
SELECT pg_catalog.max(reset_val) FILTER (WHERE name = 'TimeZone'), pg_catalog.max(reset_val) FILTER (WHERE name = 'DateStyle')
FROM pg_catalog.pg_settings WHERE name IN ('TimeZone', 'DateStyle')
