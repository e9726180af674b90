-- Generations: each build of a view, how far each of their ranges has come, in which history of the log, and who folds it.
--
-- A generation's documents are in a table of their own, `view_<name>_v<version>_g<number>`, which is made with the
-- generation: it is derived data. Documents and checkpoints are always written in one transaction, by the holder of the
-- leases.
--
-- `projection_checkpoints` and the tables `view_<name>_v<version>` are those of programs that know no generations. They can
-- go once none of those is left.
CREATE TABLE view_generations (
    generation   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    projection   text COLLATE "C" NOT NULL,
    version      bigint NOT NULL,
    -- Counts the generations of a projection, from 1.
    number       bigint NOT NULL,
    phase        text NOT NULL CHECK (phase IN
        ('replay', 'catch_up', 'verify', 'held', 'live', 'retired', 'dropped', 'aborted')),
    -- What operators want of it.
    paused       boolean NOT NULL DEFAULT FALSE,
    confirm_diff boolean NOT NULL DEFAULT FALSE,
    -- In how many ranges it is folded.
    shards       integer NOT NULL CHECK (shards BETWEEN 1 AND 1024),
    -- How far the log was folded in memory, while it is replayed.
    replayed     bigint NOT NULL DEFAULT 0,
    -- What its program declared: fields, owner and indexes.
    declaration  text NOT NULL,
    -- In what it differs from the one that was live.
    report       text,
    started_by   text NOT NULL,
    started_at   timestamptz NOT NULL,
    -- When its phase began.
    phase_at     timestamptz NOT NULL,
    UNIQUE (projection, number)
);
CREATE UNIQUE INDEX view_generations_live ON view_generations (projection, version) WHERE phase = 'live';

CREATE TABLE view_ranges (
    generation       bigint NOT NULL REFERENCES view_generations,
    -- The range of slices [from, to) that this row speaks of; those of a generation cover [0, 1024).
    slice_from       integer NOT NULL,
    slice_to         integer NOT NULL,
    -- The last event taken in, and the log that it was read from; position 0 and a nil id before the first.
    log_id           uuid NOT NULL,
    epoch            bigint NOT NULL,
    position         bigint NOT NULL,
    event_id         uuid NOT NULL,
    -- Who folds it, until when unless renewed (by this database's clock). Each new holder raises the lease's epoch, and
    -- every write requires the epoch that its writer was given.
    lease_owner      text,
    lease_epoch      bigint NOT NULL,
    lease_until      timestamptz,
    -- Why it stands still, and at which position.
    stopped_reason   text,
    stopped_position bigint,
    updated_at       timestamptz NOT NULL,
    PRIMARY KEY (generation, slice_from),
    CHECK (0 <= slice_from AND slice_from < slice_to AND slice_to <= 1024),
    CHECK (position >= 0),
    CHECK ((lease_owner IS NULL) = (lease_until IS NULL)),
    CHECK ((stopped_reason IS NULL) = (stopped_position IS NULL))
) WITH (fillfactor = 50);

-- Who shares a generation's ranges, as long as they show signs of life.
CREATE TABLE projector_workers (
    generation bigint NOT NULL REFERENCES view_generations,
    owner      text NOT NULL,
    seen_until timestamptz NOT NULL,
    PRIMARY KEY (generation, owner)
);

-- Events that could not be applied to a document, and all those behind them that touch it.
CREATE TABLE view_dead_letters (
    generation bigint NOT NULL REFERENCES view_generations,
    key        text COLLATE "C" NOT NULL,
    position   bigint NOT NULL,
    event_id   uuid NOT NULL,
    event_type text NOT NULL,
    -- Why; NULL where it only stands behind another one.
    error      text,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (generation, key, position)
);

-- Which documents each commit changed: for the caches of other processes. Kept for some minutes.
CREATE TABLE view_changes (
    generation   bigint NOT NULL REFERENCES view_generations,
    position_to  bigint NOT NULL,
    slice_from   integer NOT NULL,
    keys         text[] NOT NULL,
    committed_at timestamptz NOT NULL,
    PRIMARY KEY (generation, position_to, slice_from)
);
