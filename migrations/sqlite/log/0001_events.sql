-- The event log: every event once, in order, for ever.
-- Times are RFC 3339 in UTC with exactly six digits, so that they sort as text.

CREATE TABLE events (
    position       INTEGER PRIMARY KEY,
    stream         TEXT    NOT NULL,
    revision       INTEGER NOT NULL,
    id             TEXT    NOT NULL,
    type           TEXT    NOT NULL,
    schema_version INTEGER NOT NULL,
    recorded_at    TEXT    NOT NULL,
    metadata       TEXT    NOT NULL,
    payload        TEXT    NOT NULL,
    UNIQUE (stream, revision)
) STRICT;

-- Which log this is. Not where it ends: that is the newest event.
CREATE TABLE log_identity (
    only_row INTEGER PRIMARY KEY CHECK (only_row = 1),
    log_id   TEXT    NOT NULL,
    -- Raised by each restore of a backup.
    epoch    INTEGER NOT NULL
) STRICT;
-- The log's id is a random (version 4) UUID.
INSERT INTO log_identity (only_row, log_id, epoch) VALUES (
    1,
    lower(
        hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-'
        || substr('89ab', 1 + (random() & 3), 1) || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6))
    ),
    1
);

-- Unique keys, each held by a stream.
CREATE TABLE claims (
    name   TEXT NOT NULL,
    key    TEXT NOT NULL,
    holder TEXT NOT NULL,
    PRIMARY KEY (name, key)
) STRICT, WITHOUT ROWID;

-- The receipts of commands that came with an idempotency key; `digest` and `body` are keyed digests.
CREATE TABLE idempotency (
    digest     BLOB PRIMARY KEY NOT NULL,
    body       BLOB NOT NULL,
    receipt    TEXT NOT NULL,
    expires_at TEXT
) STRICT;
CREATE INDEX idempotency_expires_at ON idempotency (expires_at) WHERE expires_at IS NOT NULL;

-- States of aggregates, so that long streams need not be folded from their first event on: the newest of each version,
-- since two programs that run at once may have two. All of them may be thrown away at any time.
CREATE TABLE snapshots (
    stream        TEXT    NOT NULL,
    state_version INTEGER NOT NULL,
    revision      INTEGER NOT NULL,
    -- The event at that revision: in another history it is another one.
    event_id      TEXT    NOT NULL,
    state         TEXT    NOT NULL,
    PRIMARY KEY (stream, state_version)
) STRICT;

-- What is in the log stays as it is. (SQLite has no TRUNCATE; a DELETE without WHERE fires this trigger too.)
CREATE TRIGGER events_never_update BEFORE UPDATE ON events BEGIN
    SELECT RAISE(ABORT, 'events are never changed');
END;
CREATE TRIGGER events_never_delete BEFORE DELETE ON events BEGIN
    SELECT RAISE(ABORT, 'events are never removed');
END;

-- INSERT OR REPLACE removes the row in its way without firing the triggers above, so nothing may be in the way:
-- the database itself holds positions and revisions dense.
CREATE TRIGGER events_position_dense BEFORE INSERT ON events
WHEN NEW.position IS NOT (SELECT coalesce(max(position), 0) + 1 FROM events) BEGIN
    SELECT RAISE(ABORT, 'the position is not the next one of the log');
END;
CREATE TRIGGER events_revision_dense BEFORE INSERT ON events
WHEN NEW.revision IS NOT (SELECT coalesce(max(revision), 0) + 1 FROM events WHERE stream = NEW.stream) BEGIN
    SELECT RAISE(ABORT, 'the revision is not the next one of the stream');
END;
