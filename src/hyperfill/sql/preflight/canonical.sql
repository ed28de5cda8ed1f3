-- A bound as the server understands it, in its canonical text.
SELECT %s::text::{type}::text
