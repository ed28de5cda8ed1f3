-- Which of these buckets the aggregate has stored.
SELECT u.value FROM pg_catalog.unnest(%s::text[]) AS u (value)
WHERE EXISTS (SELECT FROM {materialization} AS m WHERE m.{column} = u.value::{type})
