-- The user's condition, as every statement uses it. LIMIT 0: it is parsed and planned, not run.
SELECT 1 FROM {relation} AS r WHERE ({condition}
) LIMIT 0
