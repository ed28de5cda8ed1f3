-- A window's rows into a file. Always a SELECT: COPY of a hypertable itself sends nothing. The header names the
-- columns, so that a file means the same without its manifest.
COPY (SELECT {columns} FROM {relation} AS r WHERE {window}) TO STDOUT ({options}, HEADER)
