-- Empty the table before a load (copy -truncate). Not ONLY: rows of a hypertable are in its chunks.
TRUNCATE {relation}
