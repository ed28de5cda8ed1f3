-- libpq reads what fits into its buffer, 16 KiB, and enlarges it only for a message that does not fit. Before the first
-- COPY one such message saves a sixth of the client's CPU for all that follows: it is read from the socket less often.
SELECT pg_catalog.repeat(' ', 256 * 1024)
