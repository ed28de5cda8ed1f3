-- How this transaction reads times that are written without a zone, or not as ISO.
SELECT pg_catalog.set_config('TimeZone', %s, true), pg_catalog.set_config('DateStyle', %s, true)
