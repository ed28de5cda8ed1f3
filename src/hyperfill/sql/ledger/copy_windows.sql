-- The plan of a backfill in one stream.
COPY hyperfill.windows (backfill_id, id, lower, upper, estimate, may_lose) FROM STDIN
