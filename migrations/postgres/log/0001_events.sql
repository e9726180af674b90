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

-- Which log this is. Not where it ends: that is the newest event. A row that every append moved would leave a dead
-- version behind each time, and as long as a snapshot is open somewhere (a backup), everybody wades through them.
CREATE TABLE log_identity (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    log_id   uuid    NOT NULL,
    -- Raised by each restore of a backup.
    epoch    bigint  NOT NULL,
    -- Named by every append. Drawn anew, it shuts out what was sent before and has not arrived yet.
    fence    uuid    NOT NULL,
    -- The writer that has the next turn, as long as the log ends at this position and until then: it lost against others.
    turn_of    uuid,
    turn_at    bigint,
    turn_until timestamptz
);
INSERT INTO log_identity (log_id, epoch, fence) VALUES (gen_random_uuid(), 1, gen_random_uuid());

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

-- States of aggregates, so that long streams need not be folded from their first event on: the newest of each version,
-- since two programs that run at once may have two. All of them may be thrown away at any time.
CREATE TABLE snapshots (
    stream        text    COLLATE "C" NOT NULL,
    state_version bigint  NOT NULL,
    revision      bigint  NOT NULL,
    -- The event at that revision: in another history it is another one.
    event_id      uuid    NOT NULL,
    state         json    NOT NULL,
    PRIMARY KEY (stream, state_version)
);

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

-- This refuses whoever does not take part in the order of the log; it costs two look-ups for each statement, however
-- many rows it has.
CREATE FUNCTION events_check_order() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    newest CONSTANT bigint := (SELECT max(position) FROM events);
BEGIN
    IF newest > 1 AND NOT EXISTS (SELECT FROM events WHERE position = newest - 1) THEN
        RAISE EXCEPTION 'there is no event before the one at position %', newest
            USING ERRCODE = 'integrity_constraint_violation';
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER events_stay_dense AFTER INSERT ON events
    FOR EACH STATEMENT EXECUTE FUNCTION events_check_order();
