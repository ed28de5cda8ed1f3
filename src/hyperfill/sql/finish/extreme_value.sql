-- The value furthest along in the direction of the sequence.
SELECT {function}(r.{column})::bigint FROM {relation} AS r
