-- Which of these stretches hold at least one row: one probe of the index each, in one round trip.
-- ORDER BY in the probe keeps the planner from a sequential scan that it hopes to end early.
SELECT c.number
FROM ROWS FROM (pg_catalog.unnest({lowers}::text[]::{type}[]), pg_catalog.unnest({uppers}::text[]::{type}[])) WITH ORDINALITY AS c (lower, upper, number)
CROSS JOIN LATERAL (
    SELECT 1 FROM {relation} AS r WHERE r.{column} >= c.lower AND r.{column} < c.upper ORDER BY r.{column} LIMIT 1
) AS found
ORDER BY c.number
