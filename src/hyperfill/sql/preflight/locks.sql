-- Locks that the server has room for, and indexes of each chunk.
SELECT pg_catalog.current_setting('max_locks_per_transaction')::bigint
           * (pg_catalog.current_setting('max_connections')::bigint
              + pg_catalog.current_setting('max_prepared_transactions')::bigint),
       (SELECT pg_catalog.count(*) FROM pg_catalog.pg_index WHERE indrelid = %(oid)s::oid)
