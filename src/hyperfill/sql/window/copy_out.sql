-- A window's rows from the source. Always a SELECT: COPY of a hypertable itself sends nothing.
COPY (SELECT {columns} FROM {relation} AS r WHERE {window}) TO STDOUT (FORMAT {format})
