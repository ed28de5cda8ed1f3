-- Turn one job off or on, and change nothing else of it: alter_job() would erase its time zone and set another
-- next start, so both are passed as they are now. Passing next_start locks the table of all job statistics until
-- COMMIT, and is needed only where there is a time zone. No row: the job is gone, or was in that state already.
SELECT {extension}.alter_job(
           j.id, scheduled => %(on)s, timezone => j.timezone,
           next_start => CASE WHEN j.timezone IS NOT NULL THEN nullif(s.next_start, '-infinity') END) IS NOT NULL
FROM {job_table} AS j
LEFT JOIN _timescaledb_internal.bgw_job_stat AS s ON s.job_id = j.id
WHERE j.id = %(id)s AND j.scheduled = NOT %(on)s
