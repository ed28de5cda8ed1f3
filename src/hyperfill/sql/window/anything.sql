-- Whether the target has a row in this stretch.
SELECT EXISTS (SELECT FROM {relation} AS r WHERE {window})
