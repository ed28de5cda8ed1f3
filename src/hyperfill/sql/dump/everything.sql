-- All rows, never run: the planner says how many it thinks there are.
SELECT 1 FROM {relation} AS r
