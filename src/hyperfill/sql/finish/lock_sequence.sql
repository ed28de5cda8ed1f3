-- Keeps nextval() of others out until the transaction ends: LOCK TABLE does not take sequences, and
-- ALTER SEQUENCE with the value it already has changes nothing.
ALTER SEQUENCE {sequence} CACHE {cache}
