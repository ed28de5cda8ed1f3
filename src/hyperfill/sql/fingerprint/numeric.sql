-- A number without the zeros behind it: 1.0 and 1.00 are equal. The type's own hash takes NaN for an infinity.
pg_catalog.numeric_send(pg_catalog.trim_scale({value}))
