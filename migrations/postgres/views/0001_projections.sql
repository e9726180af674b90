-- How far each projection has come, in which history of the log, and who folds it.
--
-- A view's documents are in a table of their own, `view_<name>_v<version>`, which the projector makes: it is derived
-- data. Documents and checkpoint are always written in one transaction, by the holder of the lease.
CREATE TABLE projection_checkpoints (
    projection       text COLLATE "C" NOT NULL,
    version          bigint NOT NULL,
    -- The range of slices [from, to) that this row speaks of. A projection that is folded whole has one row.
    slice_from       integer NOT NULL DEFAULT 0,
    slice_to         integer NOT NULL DEFAULT 1024,
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
    PRIMARY KEY (projection, version, slice_from, slice_to),
    CHECK (0 <= slice_from AND slice_from < slice_to AND slice_to <= 1024),
    CHECK (position >= 0),
    CHECK ((lease_owner IS NULL) = (lease_until IS NULL)),
    CHECK ((stopped_reason IS NULL) = (stopped_position IS NULL))
);
