-- A new backfill; its windows follow in the same transaction.
INSERT INTO hyperfill.backfills (kind, hypertable, hypertable_oid, source, source_relation, time_type, time_column,
    source_time_column, range_start, range_end, columns, settings, client, findings, versions)
VALUES (%(kind)s, %(hypertable)s, %(hypertable_oid)s, %(source)s, %(source_relation)s, %(time_type)s, %(time_column)s,
    %(source_time_column)s, %(range_start)s, %(range_end)s, %(columns)s, %(settings)s, %(client)s, %(findings)s, %(versions)s)
RETURNING id
