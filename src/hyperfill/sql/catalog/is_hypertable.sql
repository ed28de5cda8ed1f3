-- Whether a relation is a hypertable (materializations of continuous aggregates are too).
SELECT EXISTS (
    SELECT FROM timescaledb_information.dimensions
    WHERE hypertable_schema = %(schema)s AND hypertable_name = %(name)s)
