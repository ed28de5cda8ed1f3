-- The application's tables, the same on both sides.
CREATE TABLE public.flights (
    departure timestamptz NOT NULL,   -- as scheduled
    carrier text NOT NULL,
    flight int NOT NULL,
    tailnum text,
    origin text NOT NULL,
    dest text NOT NULL,
    dep_delay int,                    -- minutes; NULL: the flight was cancelled
    arr_delay int,                    -- minutes
    air_time int,                     -- minutes
    distance int NOT NULL             -- miles
);
CREATE TABLE public.weather (
    "time" timestamptz NOT NULL,
    origin text NOT NULL,
    temp double precision,            -- degrees Fahrenheit
    dewp double precision,
    humid double precision,           -- percent
    wind_dir int,                     -- degrees
    wind_speed double precision,      -- miles per hour
    wind_gust double precision,
    precip double precision,          -- inches
    pressure double precision,        -- millibars
    visib double precision            -- miles
);
