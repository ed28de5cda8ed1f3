-- The named job, if it is still there.
SELECT j.id FROM {job_table} AS j WHERE j.id = %(id)s
