-- What an application does: one row.
INSERT INTO {table} VALUES ({values})
