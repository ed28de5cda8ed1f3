-- Which chunks of the range are to end compressed, in one stream.
COPY hyperfill.conversions (backfill_id, id, lower, upper, first_window, last_window, direct) FROM STDIN
