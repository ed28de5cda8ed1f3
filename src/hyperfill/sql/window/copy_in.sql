-- A window's rows into the target, columns by name.
COPY {relation} ({columns}) FROM STDIN (FORMAT {format})
