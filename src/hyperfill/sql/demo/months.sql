-- Departures from one airport, month by month, with the weather of the hour.
SELECT to_char(time_bucket('1 month', f.departure, 'America/New_York')
               AT TIME ZONE 'America/New_York', 'Mon') AS month,
       count(*) AS flights,
       avg(f.dep_delay) AS "delay (min)",
       100 * avg((f.dep_delay IS NULL)::int) AS "cancelled (%)",
       avg(w.wind_speed) AS "wind (mph)",
       avg(w.visib) AS "visibility (mi)"
FROM flights f
LEFT JOIN weather w ON w.origin = f.origin
     AND w.time = date_trunc('hour', f.departure)
     AND w.wind_speed < 200  -- a broken reading says 1048 mph
WHERE f.origin = 'EWR'
GROUP BY time_bucket('1 month', f.departure, 'America/New_York')
ORDER BY time_bucket('1 month', f.departure, 'America/New_York')
