-- The target's tables become hypertables, one chunk for each week.
SELECT create_hypertable('public.flights', 'departure', chunk_time_interval => interval '7 days');
SELECT create_hypertable('public.weather', 'time', chunk_time_interval => interval '7 days');
