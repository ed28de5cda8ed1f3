-- What the planner knows of the distribution of a column, for the relation with its children if it has any.
SELECT null_frac::float8, most_common_vals::text::text[], most_common_freqs::float8[], histogram_bounds::text::text[]
FROM pg_catalog.pg_stats
WHERE schemaname = %s AND tablename = %s AND attname = %s
ORDER BY inherited DESC
LIMIT 1
