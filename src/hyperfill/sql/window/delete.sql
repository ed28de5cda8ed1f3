-- Exactly the window, with literals: anything else keeps the planner from excluding chunks, and the
-- statement would lock every chunk of the hypertable.
DELETE FROM {relation} AS r WHERE {window}
