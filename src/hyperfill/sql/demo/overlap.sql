-- What the target has got by dual-writing before the demo begins: at first from a part of the application only,
-- known by its origin, later from all of it.
SELECT * FROM {table}
WHERE {column} >= {first} AND ({column} >= {second} OR origin = {origin})
ORDER BY {column}
