-- Where the levels below had chunks before the first write.
SELECT id, held FROM hyperfill.aggregates WHERE backfill_id = %s
