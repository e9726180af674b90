-- How far each projection has come, in which history of the log, and who folds it.
--
-- A view's documents are in a table of their own, `view_<name>_v<version>`, which the projector makes: it is derived
-- data. Documents and checkpoint are always written in one transaction, by the holder of the lease.
--
-- Times are RFC 3339 in UTC with milliseconds, which sort as text.
CREATE TABLE projection_checkpoints (
    projection       TEXT NOT NULL,
    version          INTEGER NOT NULL,
    -- The range of slices [from, to) that this row speaks of. A projection that is folded whole has one row.
    slice_from       INTEGER NOT NULL DEFAULT 0,
    slice_to         INTEGER NOT NULL DEFAULT 1024,
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
    PRIMARY KEY (projection, version, slice_from, slice_to),
    CHECK (0 <= slice_from AND slice_from < slice_to AND slice_to <= 1024),
    CHECK (position >= 0),
    CHECK ((lease_owner IS NULL) = (lease_until IS NULL)),
    CHECK ((stopped_reason IS NULL) = (stopped_position IS NULL))
) STRICT;
