-- Deletes nothing, and decompresses the one batch that holds the row: the chunk is partial afterwards. The planner
-- cannot know that random() is never below 0.
DELETE FROM {relation} AS r WHERE {row} AND pg_catalog.random() < 0
