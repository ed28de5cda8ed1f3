-- Which of these chunks were made before a moment.
SELECT pg_catalog.count(*)
FROM timescaledb_information.chunks AS c
WHERE c.hypertable_schema = %(schema)s AND c.hypertable_name = %(name)s
  AND c.chunk_name = ANY (%(chunks)s::text[]) AND c.chunk_creation_time < %(cutoff)s::timestamptz
