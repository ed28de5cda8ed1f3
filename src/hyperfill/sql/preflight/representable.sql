-- Whether the target can hold these names in its ledger.
SELECT %s::text
