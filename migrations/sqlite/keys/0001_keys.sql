-- What must never be in the log: keys, secrets, password hashes, tokens. What is called wrapped is encrypted under a master
-- key, which is in no database. Times are Unix milliseconds, so that the same statements serve both stores.

-- Which master key everything is wrapped under from now on: the beginning of a digest of it. Whoever stores something
-- wrapped holds this row meanwhile, so that a rotation, which moves it, misses nothing.
CREATE TABLE master_key (
    only_row integer NOT NULL PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    id blob NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE secrets (
    name text NOT NULL PRIMARY KEY,
    wrapped blob NOT NULL,
    created_at_ms integer NOT NULL
) STRICT, WITHOUT ROWID;

-- The keys that access tokens are signed with. Numbers are dense, so that two processes that make the first (or
-- the next) key at once make one.
CREATE TABLE signing_keys (
    number integer NOT NULL PRIMARY KEY,
    -- PKCS#8.
    wrapped blob NOT NULL,
    created_at_ms integer NOT NULL,
    -- Signs from then on; until then it is only published.
    sign_from_ms integer NOT NULL,
    -- Verifies until then; NULL while no newer key has taken its place.
    verify_until_ms integer
) STRICT, WITHOUT ROWID;

-- The keys that personal data is sealed with, one for each person.
CREATE TABLE subject_keys (
    subject text NOT NULL PRIMARY KEY,
    -- NULL once the person was forgotten. The row stays: the key is never made again.
    wrapped blob,
    created_at_ms integer NOT NULL,
    forgotten_at_ms integer,
    CHECK ((wrapped IS NULL) = (forgotten_at_ms IS NOT NULL))
) STRICT, WITHOUT ROWID;

-- How far the log was read for people to forget. It is here, beside the keys, so that keys that come back from a backup
-- are deleted again.
CREATE TABLE forgettings_checkpoint (
    only_row integer NOT NULL PRIMARY KEY DEFAULT 1 CHECK (only_row = 1),
    log_id blob NOT NULL,
    epoch integer NOT NULL,
    position integer NOT NULL,
    event_id blob NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE credentials (
    account_id blob NOT NULL PRIMARY KEY,
    -- The key of the claim of its e-mail address, a keyed digest: to give it back.
    email_key text NOT NULL,
    -- An argon2id PHC string.
    password_hash text NOT NULL,
    changed_at_ms integer NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE refresh_tokens (
    -- SHA-256 of the token; the token itself is kept nowhere.
    hash blob NOT NULL PRIMARY KEY,
    session_id blob NOT NULL,
    account_id blob NOT NULL,
    expires_at_ms integer NOT NULL,
    used_at_ms integer,
    -- A keyed digest of the client that used it.
    used_by blob
) STRICT, WITHOUT ROWID;

CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);
CREATE INDEX refresh_tokens_account ON refresh_tokens (account_id);
CREATE INDEX refresh_tokens_expiry ON refresh_tokens (expires_at_ms);
