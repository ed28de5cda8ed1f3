-- Whether the completion point is still to come.
SELECT %(moment)s::text::timestamptz > now()
