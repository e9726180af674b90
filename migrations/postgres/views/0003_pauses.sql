-- How long a generation was let wait: that is no time that it took.
ALTER TABLE view_generations
    -- Since when it waits.
    ADD COLUMN paused_at      timestamptz,
    -- How long it waited before.
    ADD COLUMN paused_seconds double precision NOT NULL DEFAULT 0;
