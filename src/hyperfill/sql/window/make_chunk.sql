-- One row that makes the server create the chunk it belongs to, in the range that the server chooses.
INSERT INTO {relation} ({columns}) OVERRIDING SYSTEM VALUE VALUES {rows}
