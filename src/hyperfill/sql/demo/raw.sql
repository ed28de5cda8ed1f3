-- Columns as they are in the CSV files, for one session; the views below read them as the tables want them.
CREATE TEMP TABLE raw_flights (
    year int, month int, day int, dep_time int, sched_dep_time int, dep_delay int, arr_time int, sched_arr_time int,
    arr_delay int, carrier text, flight int, tailnum text, origin text, dest text, air_time int, distance int,
    hour int, minute int, time_hour timestamptz
);
CREATE TEMP TABLE raw_weather (
    origin text, year int, month int, day int, hour int, temp double precision, dewp double precision,
    humid double precision, wind_dir int, wind_speed double precision, wind_gust double precision,
    precip double precision, pressure double precision, visib double precision, time_hour timestamptz
);
-- The timetable is in New York's local time.
CREATE TEMP VIEW read_flights AS
SELECT pg_catalog.make_timestamptz(year, month, day, hour, minute, 0, 'America/New_York') AS departure,
       carrier, flight, tailnum, origin, dest, dep_delay, arr_delay, air_time, distance
FROM raw_flights;
CREATE TEMP VIEW read_weather AS
SELECT time_hour AS "time", origin, temp, dewp, humid, wind_dir, wind_speed, wind_gust, precip, pressure, visib
FROM raw_weather;
