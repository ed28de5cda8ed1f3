-- The condition once more, in two different surroundings: a text that closes one of them and goes on
-- behind it cannot be valid in the other.
SELECT 1 FROM {relation} AS r WHERE CASE WHEN {condition}
THEN true ELSE false END AND ({condition}
) LIMIT 0
