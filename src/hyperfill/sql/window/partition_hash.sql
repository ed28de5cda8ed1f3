-- Which hash TimescaleDB gives a value of a space dimension's column.
SELECT _timescaledb_functions.get_partition_hash({value}::{type})
