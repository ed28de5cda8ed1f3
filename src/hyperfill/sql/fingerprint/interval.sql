-- An interval as the number that its type compares by: '1 mon' and '30 days' are equal. Its own hash folds that number
-- to 32 bits. Of an infinite one some fields are null, and the year is infinite.
coalesce((((extract(year FROM {value}) * 12 + extract(month FROM {value})) * 30 + extract(day FROM {value})) * 24
          + extract(hour FROM {value})) * 3600000000 + extract(minute FROM {value}) * 60000000
         + extract(microseconds FROM {value}), extract(year FROM {value}))
