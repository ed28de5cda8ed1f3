-- Whether the target has a row in this stretch.
SELECT EXISTS (SELECT FROM {relation} WHERE {window})
