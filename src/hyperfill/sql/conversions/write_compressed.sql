-- From here to the end of the transaction COPY writes compressed rows, which come in the order that the chunk is kept in.
SELECT pg_catalog.set_config('timescaledb.enable_direct_compress_copy', 'on', true),
       pg_catalog.set_config('timescaledb.enable_direct_compress_copy_client_sorted', 'on', true)
