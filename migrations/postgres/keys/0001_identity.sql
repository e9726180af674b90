-- What must never be in the log: secrets, password hashes, tokens. Times are Unix milliseconds, so that the same
-- statements serve both stores.

CREATE TABLE identity_secrets (
    name text PRIMARY KEY,
    value bytea NOT NULL,
    created_at_ms bigint NOT NULL
);

-- The keys that access tokens are signed with. Numbers are dense, so that two processes that make the first (or
-- the next) key at once make one.
CREATE TABLE signing_keys (
    number bigint PRIMARY KEY,
    pkcs8 bytea NOT NULL,
    created_at_ms bigint NOT NULL,
    -- Signs from then on; until then it is only published.
    sign_from_ms bigint NOT NULL,
    -- Verifies until then; NULL while no newer key has taken its place.
    verify_until_ms bigint
);

CREATE TABLE credentials (
    account_id uuid PRIMARY KEY,
    -- An argon2id PHC string.
    password_hash text NOT NULL,
    changed_at_ms bigint NOT NULL
);

CREATE TABLE refresh_tokens (
    -- SHA-256 of the token; the token itself is kept nowhere.
    hash bytea PRIMARY KEY,
    session_id uuid NOT NULL,
    account_id uuid NOT NULL,
    expires_at_ms bigint NOT NULL,
    used_at_ms bigint,
    -- A keyed digest of the client that used it.
    used_by bytea
);

CREATE INDEX refresh_tokens_session ON refresh_tokens (session_id);
CREATE INDEX refresh_tokens_expiry ON refresh_tokens (expires_at_ms);
