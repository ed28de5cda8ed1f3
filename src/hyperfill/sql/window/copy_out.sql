-- A window's rows from the source. Always a SELECT: COPY of a hypertable itself sends nothing.
COPY ({rows}) TO STDOUT (FORMAT {format})
