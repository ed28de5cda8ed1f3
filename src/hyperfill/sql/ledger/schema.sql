-- The ledger: what was planned, what is done. It lives in the target, so that a window's rows and the
-- note that they are there commit together. No secrets, and no rights for PUBLIC (a new schema has none).

CREATE SCHEMA hyperfill;
COMMENT ON SCHEMA hyperfill IS 'Ledger of hyperfill: backfills and their windows. "hyperfill clean" empties it.';

-- One row. A client refuses a ledger that is newer than itself, and brings an older one forward.
CREATE TABLE hyperfill.ledger (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    version int NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO hyperfill.ledger (version) VALUES (1);

CREATE TABLE hyperfill.backfills (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- What is moved. Pinned: a command that says otherwise is refused while the backfill is unfinished.
    hypertable text NOT NULL,               -- quoted, schema-qualified
    hypertable_oid oid NOT NULL,
    source text NOT NULL,                   -- the cluster's system identifier and the database, never a conninfo
    source_relation text NOT NULL,
    time_type text NOT NULL,
    time_column text NOT NULL,
    source_time_column text NOT NULL,
    range_start text,                       -- NULL: open below
    range_end text NOT NULL,
    columns jsonb NOT NULL,                 -- names and types, as moved
    settings jsonb NOT NULL,                -- whatever else changes the outcome: split, condition, ...
    -- How far it is. Each phase can be entered again after a crash.
    phase text NOT NULL DEFAULT 'planned'
        CHECK (phase IN ('planned', 'held', 'moved', 'recompressed', 'refreshed', 'verified', 'done')),
    planned_at timestamptz NOT NULL DEFAULT now(),
    started_at timestamptz,                 -- of the first run
    finished_at timestamptz,
    runs int NOT NULL DEFAULT 0,
    planned_by text NOT NULL DEFAULT session_user,
    client text NOT NULL,                   -- version of hyperfill that made the plan
    findings jsonb NOT NULL DEFAULT '[]'
);

-- The windows of a backfill are an exact partition of its range, numbered along the time axis.
CREATE TABLE hyperfill.windows (
    backfill_id bigint NOT NULL REFERENCES hyperfill.backfills ON DELETE CASCADE,
    id int NOT NULL,
    lower text,                             -- inclusive; NULL: open below
    upper text NOT NULL,                    -- exclusive
    estimate bigint NOT NULL,               -- rows the source seemed to have when the plan was made
    -- Nothing is "in progress": the lock on this row is the lease, and ends with its transaction.
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done', 'failed')),
    attempts int NOT NULL DEFAULT 0,
    rows_deleted bigint,
    rows_copied bigint,
    bytes_copied bigint,
    started_at timestamptz,
    finished_at timestamptz,
    error jsonb,
    PRIMARY KEY (backfill_id, id)
    -- Half-full pages and no index on the state: finishing a window stays a HOT update, and claims stay
    -- fast under an old transaction that keeps dead rows alive.
) WITH (fillfactor = 50);
