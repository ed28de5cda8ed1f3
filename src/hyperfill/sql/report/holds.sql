-- Policies of a hypertable that were held while a backfill of it was unfinished, whoever needed them to be.
SELECT h.id, h.relation, h.job_id, h.kind, h.job, h.held_at, h.held_by, h.released_at, h.outcome
FROM hyperfill.holds AS h
JOIN hyperfill.backfills AS b ON b.hypertable_oid = h.hypertable_oid
WHERE b.id = %s
  AND (b.finished_at IS NULL OR h.held_at < b.finished_at)
  AND (h.released_at IS NULL OR h.released_at > coalesce(b.started_at, b.planned_at))
ORDER BY h.held_at, h.job_id
