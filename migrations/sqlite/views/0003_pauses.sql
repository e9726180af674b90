-- How long a generation was let wait: that is no time that it took. `paused_at`: since when it waits; `paused_seconds`: how
-- long it waited before.
ALTER TABLE view_generations ADD COLUMN paused_at TEXT;
ALTER TABLE view_generations ADD COLUMN paused_seconds REAL NOT NULL DEFAULT 0;
