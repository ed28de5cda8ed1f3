-- The ledger: what was planned, what is done. It lives in the target, so that a window's rows and the
-- note that they are there commit together. No secrets, and no rights for PUBLIC (see the end).

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
    kind text NOT NULL DEFAULT 'run' CHECK (kind IN ('run', 'dump', 'load', 'repair')), -- from a server, a dump,
                                            -- other files; windows that differed, moved again
    -- What is moved. Pinned: a command that says otherwise is refused while the backfill is unfinished.
    hypertable text NOT NULL,               -- quoted, schema-qualified
    hypertable_oid oid NOT NULL,
    source text NOT NULL,                   -- the cluster's system identifier and the database, never a conninfo;
                                            -- of files: the dump's identifier, or 'files'
    source_relation text NOT NULL,
    time_type text NOT NULL,
    time_column text NOT NULL,
    source_time_column text NOT NULL,
    range_start text,                       -- NULL: open below
    range_end text CHECK (range_end IS NOT NULL OR kind = 'load'), -- NULL: files without a range
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
    versions jsonb NOT NULL DEFAULT '{}',   -- of the servers: {"source": {"postgresql": "17.5", "timescaledb": null}, ...}
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
    may_lose bigint,                        -- of a repair: how many rows fewer than the target the source had
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

-- Windows as they were compared after they had been moved; the last comparison of each.
CREATE TABLE hyperfill.comparisons (
    backfill_id bigint NOT NULL,
    window_id int NOT NULL,
    mode text NOT NULL CHECK (mode IN ('hash', 'count')),
    source_rows bigint NOT NULL,
    target_rows bigint NOT NULL,
    source_hash numeric,                    -- NULL: only counted
    target_hash numeric,
    equal boolean NOT NULL,
    compared_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    PRIMARY KEY (backfill_id, window_id),
    FOREIGN KEY (backfill_id, window_id) REFERENCES hyperfill.windows ON DELETE CASCADE
);

-- Files of a load, in their order, as they were when it began: a changed file is refused.
CREATE TABLE hyperfill.files (
    backfill_id bigint NOT NULL REFERENCES hyperfill.backfills ON DELETE CASCADE,
    id int NOT NULL,
    path text NOT NULL,                     -- absolute; '-' for standard input
    size bigint,                            -- as stored, NULL: not known beforehand
    content_bytes bigint,                   -- not compressed; known beforehand only of plain files
    PRIMARY KEY (backfill_id, id)
);

-- Batches of a load: stretches of a file's bytes, not compressed, each loaded by the transaction that wrote its row.
-- Cutting is the same each time, so two runs meet at the primary key, and none loads what the other has loaded.
CREATE TABLE hyperfill.batches (
    backfill_id bigint NOT NULL REFERENCES hyperfill.backfills ON DELETE CASCADE,
    file_id int NOT NULL,
    start bigint NOT NULL,                  -- byte offset
    length bigint NOT NULL,
    line bigint NOT NULL,                   -- number of its first line
    xxh3 bytea NOT NULL,                    -- 128 bits: of its bytes, to notice another file
    state text NOT NULL CHECK (state IN ('done', 'failed')),
    -- read = copied + skipped + outside + rejected
    rows_read bigint NOT NULL,
    rows_copied bigint NOT NULL DEFAULT 0,
    rows_skipped bigint NOT NULL DEFAULT 0,  -- in conflict with rows that were there
    rows_outside bigint NOT NULL DEFAULT 0,  -- of the range
    rows_rejected bigint NOT NULL DEFAULT 0,
    encoded text NOT NULL DEFAULT '',       -- 'client' or 'server'
    chunks oid[] NOT NULL DEFAULT '{}',     -- into which rows went
    started_at timestamptz NOT NULL DEFAULT now(),
    finished_at timestamptz,
    error jsonb,
    PRIMARY KEY (backfill_id, file_id, start)
);

-- Rows that the target would not take, as they were.
CREATE TABLE hyperfill.rejects (
    backfill_id bigint NOT NULL,
    file_id int NOT NULL,
    batch bigint NOT NULL,
    start bigint NOT NULL,                  -- byte offset in the file, not compressed
    line bigint NOT NULL,
    row bytea NOT NULL,
    sqlstate text,
    message text NOT NULL,
    PRIMARY KEY (backfill_id, file_id, start),
    FOREIGN KEY (backfill_id, file_id, batch) REFERENCES hyperfill.batches ON DELETE CASCADE
);

-- Policies that were turned off, each with its whole row as it was before. Written in the transaction that turns
-- the policy off, so that "off" is never taken for the original state. Rows stay as history.
CREATE TABLE hyperfill.holds (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    hypertable_oid oid NOT NULL,            -- that is filled
    hypertable text NOT NULL,               -- quoted, schema-qualified
    relation text NOT NULL,                 -- whose policy it is: the hypertable, or an aggregate above it
    job_id int NOT NULL,
    kind text NOT NULL CHECK (kind IN ('compression', 'retention', 'refresh', 'reorder')),
    job jsonb NOT NULL,                     -- the job's row, and its next start
    held_at timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp(),
    held_by text NOT NULL DEFAULT session_user,
    released_at timestamptz,                -- NULL: it is held
    outcome text CHECK (outcome IN ('on', 'was on', 'gone'))
);
CREATE UNIQUE INDEX ON hyperfill.holds (hypertable_oid, job_id) WHERE released_at IS NULL;

-- Whoever needs a hold; the last one releases it. No foreign key: a backfill that is cleaned away leaves its holds.
CREATE TABLE hyperfill.hold_users (
    hold_id bigint NOT NULL REFERENCES hyperfill.holds ON DELETE CASCADE,
    backfill_id bigint,                     -- NULL: held by hand
    since timestamptz NOT NULL DEFAULT pg_catalog.clock_timestamp()
);
CREATE UNIQUE INDEX ON hyperfill.hold_users (hold_id, coalesce(backfill_id, 0));

-- Chunks of the range that were compressed before the first delete: what is partial at the end is compressed again.
CREATE TABLE hyperfill.chunk_states (
    backfill_id bigint NOT NULL REFERENCES hyperfill.backfills ON DELETE CASCADE,
    chunk_oid oid NOT NULL,
    chunk text NOT NULL,                    -- quoted, schema-qualified
    lower text,                             -- inclusive; NULL: open
    upper text,                             -- exclusive; NULL: open
    status int NOT NULL,                    -- before: bits 1 compressed, 2 unordered, 4 frozen, 8 partial
    recompressed_at timestamptz,            -- when it was seen to be in order again
    PRIMARY KEY (backfill_id, chunk_oid)
);

-- Stretches of the range, each a chunk or the place of one, that are to end compressed: none is cut by the range's ends,
-- and none overlaps another. Numbered along the time axis.
CREATE TABLE hyperfill.conversions (
    backfill_id bigint NOT NULL REFERENCES hyperfill.backfills ON DELETE CASCADE,
    id int NOT NULL,
    lower text,                             -- inclusive; NULL: open
    upper text NOT NULL,                    -- exclusive
    first_window int NOT NULL,              -- the windows that fill it
    last_window int NOT NULL,
    direct boolean NOT NULL,                -- its one window writes compressed rows, if it can when it comes to it;
                                            -- otherwise it is compressed when its windows are done
    state text NOT NULL DEFAULT 'pending' CHECK (state IN ('pending', 'done')),
    written boolean,                        -- whether it was written compressed; NULL: not done, or nothing came
    finished_at timestamptz,
    PRIMARY KEY (backfill_id, id)
);
CREATE INDEX ON hyperfill.conversions (backfill_id, last_window, id);

-- Continuous aggregates that depend on the hypertable, as they were before the first write.
CREATE TABLE hyperfill.aggregates (
    backfill_id bigint NOT NULL REFERENCES hyperfill.backfills ON DELETE CASCADE,
    id int NOT NULL,                        -- of the materialization hypertable
    view text NOT NULL,                     -- quoted, schema-qualified
    level int NOT NULL,                     -- 1: on the hypertable itself, 2: on an aggregate of level 1, ...
    -- Where the level below had chunks: [[lower, upper], ...] in time order, null where open. A bucket outside may be
    -- all that is left of rows that retention has dropped, and must not be computed again from what is there now.
    held jsonb NOT NULL,
    watermark text,                         -- NULL: never refreshed
    PRIMARY KEY (backfill_id, id)
);

-- What is refreshed at the end, slice by slice, levels in order. Planned once, when all windows are done.
CREATE TABLE hyperfill.refreshes (
    backfill_id bigint NOT NULL REFERENCES hyperfill.backfills ON DELETE CASCADE,
    id int NOT NULL,
    aggregate int NOT NULL,
    view text NOT NULL,
    level int NOT NULL,
    lower text NOT NULL,                    -- inclusive, the beginning of a bucket
    upper text NOT NULL,                    -- exclusive, the end of a bucket
    left_out text,                          -- why it is not refreshed; NULL: it is
    done_at timestamptz,
    PRIMARY KEY (backfill_id, id)
);

-- What new things get by default may have been changed by their owner. Rejected rows are data like any other.
REVOKE ALL ON SCHEMA hyperfill FROM PUBLIC;
REVOKE ALL ON ALL TABLES IN SCHEMA hyperfill FROM PUBLIC;
REVOKE ALL ON ALL SEQUENCES IN SCHEMA hyperfill FROM PUBLIC;
