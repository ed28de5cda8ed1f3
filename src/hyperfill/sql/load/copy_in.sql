-- Rows of a batch into the target, or into the temporary table.
COPY {relation} ({columns}) FROM STDIN ({options}) {where}
