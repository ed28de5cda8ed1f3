-- The ledger's version; no row where there is no ledger. One statement, so that nothing fails in between.
SELECT pg_catalog.to_regclass('hyperfill.ledger') IS NOT NULL
