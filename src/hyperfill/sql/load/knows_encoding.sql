-- Whether the server can read files in this encoding.
SELECT pg_catalog.pg_char_to_encoding(%(encoding)s) >= 0
