-- The bucket of each position: where it begins, and where the next one does.
SELECT p.value, f.floor::text, n.next::text
FROM (SELECT u.value, u.value::{type} AS moment FROM pg_catalog.unnest(%s::text[]) AS u (value)) AS p
CROSS JOIN LATERAL (SELECT {floor} AS floor) AS f
CROSS JOIN LATERAL (SELECT {next} AS next) AS n
