-- Whole buckets only, never with an open end, and not in a transaction: the server commits in between.
CALL {procedure}({view}, {lower}, {upper})
