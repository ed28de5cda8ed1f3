-- Without an index on the time column, every window would read the whole table.
CREATE INDEX ON public.flights (departure);
CREATE INDEX ON public.weather ("time");
ANALYZE public.flights, public.weather;
