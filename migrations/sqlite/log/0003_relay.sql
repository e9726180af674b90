-- How far the log was published, topic by topic, and who publishes it.
CREATE TABLE relays (
    topic       TEXT    NOT NULL PRIMARY KEY,
    -- The topic's partitions, once it was published to. With another number, the events of a stream would come to lie in
    -- two of them, in no order.
    partitions  INTEGER,
    -- The checkpoint: everything up to here was acknowledged.
    log_id      BLOB    NOT NULL,
    epoch       INTEGER NOT NULL,
    position    INTEGER NOT NULL,
    event_id    BLOB    NOT NULL,
    -- Who publishes. Raised whenever somebody takes it over: a write that names an older one is refused.
    lease_epoch INTEGER NOT NULL DEFAULT 0,
    lease_owner TEXT,
    lease_until TEXT,
    -- What last kept it from going on; nothing once it has gone on.
    problem     TEXT
) STRICT, WITHOUT ROWID;
