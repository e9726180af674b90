-- The event log: every event once, in order, for ever.

CREATE TABLE events (
    position       bigint      PRIMARY KEY CHECK (position > 0),
    stream         text        COLLATE "C" NOT NULL,
    revision       bigint      NOT NULL CHECK (revision > 0),
    id             uuid        NOT NULL,
    type           text        NOT NULL,
    schema_version integer     NOT NULL,
    recorded_at    timestamptz NOT NULL,
    -- `json`, not `jsonb`: the exact bytes survive, since audit proofs hash them.
    metadata       json        NOT NULL,
    payload        json        NOT NULL,
    CONSTRAINT events_stream_revision UNIQUE (stream, revision)
);

-- Which log this is and where it ends. Appending locks this one row, and so gives positions their order.
CREATE TABLE log_head (
    only_row    boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    log_id      uuid        NOT NULL,
    -- Raised by each restore of a backup.
    epoch       bigint      NOT NULL,
    position    bigint      NOT NULL,
    recorded_at timestamptz NOT NULL
);
INSERT INTO log_head (log_id, epoch, position, recorded_at) VALUES (gen_random_uuid(), 1, 0, 'epoch');

-- Unique keys, each held by a stream.
CREATE TABLE claims (
    name   text COLLATE "C" NOT NULL,
    key    text COLLATE "C" NOT NULL,
    holder text COLLATE "C" NOT NULL,
    PRIMARY KEY (name, key)
);

-- The receipts of commands that came with an idempotency key; `digest` and `body` are keyed digests.
CREATE TABLE idempotency (
    digest     bytea PRIMARY KEY,
    body       bytea NOT NULL,
    receipt    json  NOT NULL,
    expires_at timestamptz
);
CREATE INDEX idempotency_expires_at ON idempotency (expires_at) WHERE expires_at IS NOT NULL;

-- What is in the log stays as it is.
CREATE FUNCTION events_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are never changed or removed: % refused', TG_OP USING ERRCODE = 'restrict_violation';
END
$$;
CREATE TRIGGER events_never_change BEFORE UPDATE OR DELETE OR TRUNCATE ON events
    FOR EACH STATEMENT EXECUTE FUNCTION events_refuse_change();
-- Also for a session that plays a replica.
ALTER TABLE events ENABLE ALWAYS TRIGGER events_never_change;

-- Whoever inserts events moves the head to the last of them, in the same statement or before. This refuses whoever
-- does not take part in the order of the log; it costs two look-ups for each statement, however many rows it has.
CREATE FUNCTION events_check_head() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF (SELECT max(position) FROM events) IS DISTINCT FROM (SELECT nullif(position, 0) FROM log_head) THEN
        RAISE EXCEPTION 'the newest event is not at the position of the log head'
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER events_end_at_head AFTER INSERT ON events
    FOR EACH STATEMENT EXECUTE FUNCTION events_check_head();
