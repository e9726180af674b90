-- How far the log was published, topic by topic, and who publishes it.
CREATE TABLE relays (
    topic       text    COLLATE "C" PRIMARY KEY,
    -- The topic's partitions, once it was published to. With another number, the events of a stream would come to lie in
    -- two of them, in no order.
    partitions  integer,
    -- The checkpoint: everything up to here was acknowledged.
    log_id      uuid    NOT NULL,
    epoch       bigint  NOT NULL,
    position    bigint  NOT NULL,
    event_id    uuid    NOT NULL,
    -- Who publishes. Raised whenever somebody takes it over: a write that names an older one is refused.
    lease_epoch bigint  NOT NULL DEFAULT 0,
    lease_owner text,
    lease_until timestamptz,
    -- What last kept it from going on; nothing once it has gone on.
    problem     text
);
