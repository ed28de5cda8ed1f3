-- A CSV file of the package as it is; its word for a missing value becomes NULL.
COPY {table} FROM STDIN (FORMAT csv, HEADER, NULL 'NA')
