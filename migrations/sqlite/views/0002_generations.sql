-- Generations: each build of a view, how far each of their ranges has come, in which history of the log, and who folds it.
--
-- A generation's documents are in a table of their own, `view_<name>_v<version>_g<number>`, which is made with the
-- generation: it is derived data. Documents and checkpoints are always written in one transaction, by the holder of the
-- leases.
--
-- Times are RFC 3339 in UTC with milliseconds, which sort as text.
--
-- `projection_checkpoints` and the tables `view_<name>_v<version>` are those of programs that know no generations. They can
-- go once none of those is left.
CREATE TABLE view_generations (
    generation   INTEGER PRIMARY KEY AUTOINCREMENT,
    projection   TEXT NOT NULL,
    version      INTEGER NOT NULL,
    -- Counts the generations of a projection, from 1.
    number       INTEGER NOT NULL,
    phase        TEXT NOT NULL CHECK (phase IN
        ('replay', 'catch_up', 'verify', 'held', 'live', 'retired', 'dropped', 'aborted')),
    -- What operators want of it.
    paused       INTEGER NOT NULL DEFAULT 0,
    confirm_diff INTEGER NOT NULL DEFAULT 0,
    -- In how many ranges it is folded.
    shards       INTEGER NOT NULL CHECK (shards BETWEEN 1 AND 1024),
    -- How far the log was folded in memory, while it is replayed.
    replayed     INTEGER NOT NULL DEFAULT 0,
    -- What its program declared: fields, owner and indexes.
    declaration  TEXT NOT NULL,
    -- In what it differs from the one that was live.
    report       TEXT,
    started_by   TEXT NOT NULL,
    started_at   TEXT NOT NULL,
    -- When its phase began.
    phase_at     TEXT NOT NULL,
    UNIQUE (projection, number)
) STRICT;
CREATE UNIQUE INDEX view_generations_live ON view_generations (projection, version) WHERE phase = 'live';

CREATE TABLE view_ranges (
    generation       INTEGER NOT NULL REFERENCES view_generations,
    -- The range of slices [from, to) that this row speaks of; those of a generation cover [0, 1024).
    slice_from       INTEGER NOT NULL,
    slice_to         INTEGER NOT NULL,
    -- The last event taken in, and the log that it was read from; position 0 and a nil id before the first.
    log_id           TEXT NOT NULL,
    epoch            INTEGER NOT NULL,
    position         INTEGER NOT NULL,
    event_id         TEXT NOT NULL,
    -- Who folds it, until when unless renewed (by this machine's clock). Each new holder raises the lease's epoch, and
    -- every write requires the epoch that its writer was given.
    lease_owner      TEXT,
    lease_epoch      INTEGER NOT NULL,
    lease_until      TEXT,
    -- Why it stands still, and at which position.
    stopped_reason   TEXT,
    stopped_position INTEGER,
    updated_at       TEXT NOT NULL,
    PRIMARY KEY (generation, slice_from),
    CHECK (0 <= slice_from AND slice_from < slice_to AND slice_to <= 1024),
    CHECK (position >= 0),
    CHECK ((lease_owner IS NULL) = (lease_until IS NULL)),
    CHECK ((stopped_reason IS NULL) = (stopped_position IS NULL))
) STRICT;

-- Who shares a generation's ranges, as long as they show signs of life.
CREATE TABLE projector_workers (
    generation INTEGER NOT NULL REFERENCES view_generations,
    owner      TEXT NOT NULL,
    seen_until TEXT NOT NULL,
    PRIMARY KEY (generation, owner)
) STRICT;

-- Events that could not be applied to a document, and all those behind them that touch it.
CREATE TABLE view_dead_letters (
    generation INTEGER NOT NULL REFERENCES view_generations,
    key        TEXT NOT NULL,
    position   INTEGER NOT NULL,
    event_id   TEXT NOT NULL,
    event_type TEXT NOT NULL,
    -- Why; NULL where it only stands behind another one.
    error      TEXT,
    created_at TEXT NOT NULL,
    PRIMARY KEY (generation, key, position)
) STRICT;

-- Which documents each commit changed: for the caches of other processes. Kept for some minutes.
CREATE TABLE view_changes (
    generation   INTEGER NOT NULL REFERENCES view_generations,
    position_to  INTEGER NOT NULL,
    slice_from   INTEGER NOT NULL,
    keys         TEXT NOT NULL,
    committed_at TEXT NOT NULL,
    PRIMARY KEY (generation, position_to, slice_from)
) STRICT;
