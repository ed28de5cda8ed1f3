-- How far a standby is: the commit time of the last transaction it replayed, whether that is at or after
-- the completion point, and whether everything it received is replayed while it streams.
SELECT pg_catalog.pg_last_xact_replay_timestamp()::text,
       coalesce(pg_catalog.pg_last_xact_replay_timestamp() >= %(moment)s::text::timestamptz, false),
       coalesce(pg_catalog.pg_last_wal_receive_lsn() = pg_catalog.pg_last_wal_replay_lsn(), false)
           AND EXISTS (SELECT FROM pg_catalog.pg_stat_wal_receiver WHERE status = 'streaming')
