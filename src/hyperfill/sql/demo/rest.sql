-- What the application will write while the demo runs, in the order of time.
SELECT * FROM {reading} WHERE {column} >= {start} ORDER BY {column}
