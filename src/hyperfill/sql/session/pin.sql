-- Set each setting that this server knows. A plain SET of an unknown one would be an error on an older
-- server (transaction_timeout before 17) and a silent placeholder for an extension's that is not loaded.
-- The subquery comes first: it makes TimescaleDB load its library, and with it its settings.
SELECT pg_catalog.set_config(s.name, w.value, false)
FROM ROWS FROM (pg_catalog.unnest(%s::text[]), pg_catalog.unnest(%s::text[])) AS w (name, value)
JOIN pg_catalog.pg_settings AS s ON pg_catalog.lower(s.name) = pg_catalog.lower(w.name)
