-- A policy that is turned off in this transaction, with its whole row as it was before.
INSERT INTO hyperfill.holds (hypertable_oid, hypertable, relation, job_id, kind, job)
VALUES (%(oid)s::bigint::oid, %(hypertable)s, %(relation)s, %(job_id)s, %(kind)s, %(job)s)
RETURNING id
