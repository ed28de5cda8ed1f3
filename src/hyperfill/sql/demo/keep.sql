-- History: what the application has written to the source alone, or before the demo begins.
INSERT INTO {table} SELECT * FROM {reading} WHERE {column} < {before} ORDER BY {column}
