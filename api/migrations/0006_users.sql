-- People who log in, and the role between agent and admin.

-- SQLite cannot change a CHECK, so the table of keys is made anew.
CREATE TABLE kept_api_keys AS SELECT id, name, role, hash, created_at, revoked_at FROM api_keys;
DROP TABLE api_keys;
CREATE TABLE api_keys (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('caller', 'agent', 'supervisor', 'admin')),
    -- SHA-256 of the key; the key itself is kept nowhere.
    hash TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);
INSERT INTO api_keys (id, name, role, hash, created_at, revoked_at)
    SELECT id, name, role, hash, created_at, revoked_at FROM kept_api_keys;
DROP TABLE kept_api_keys;

CREATE TABLE users (
    id TEXT NOT NULL PRIMARY KEY,
    -- In small letters.
    login TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('agent', 'supervisor', 'admin')),
    team TEXT,
    -- Argon2id with its parameters and salt, in PHC form.
    password_hash TEXT NOT NULL,
    -- Since when they cannot log in.
    disabled_at BIGINT,
    last_login_at BIGINT,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);

-- Browsers that are logged in. A row is removed when its person logs out, and some time after it has expired.
CREATE TABLE logins (
    -- SHA-256 of the cookie; the cookie itself is kept nowhere.
    token_hash TEXT NOT NULL PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id),
    csrf_token TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE INDEX logins_by_user ON logins (user_id);
CREATE INDEX logins_by_expiry ON logins (expires_at);

-- Wrong passwords of the last minutes. By login name, whether or not anybody has it, so that the lock tells nothing of who does.
CREATE TABLE login_failures (
    id TEXT NOT NULL PRIMARY KEY,
    login TEXT NOT NULL,
    at BIGINT NOT NULL
);

CREATE INDEX login_failures_by_login ON login_failures (login, at);
CREATE INDEX login_failures_by_time ON login_failures (at);
