-- One set of SQL for SQLite and PostgreSQL: TEXT, BIGINT and DOUBLE PRECISION only.
-- Ids are UUID v7 text that the program makes; times are milliseconds since 1970 (UTC).

CREATE TABLE sessions (
    id TEXT NOT NULL PRIMARY KEY,
    user_id TEXT,
    channel TEXT NOT NULL,
    owner TEXT NOT NULL CHECK (owner IN ('bot', 'agent')),
    owner_agent TEXT,
    profile TEXT,
    -- Highest turn number so far; the row is locked while it moves.
    last_seq BIGINT NOT NULL,
    -- Turns up to this one were settled by a resolution: the policy judges only later ones.
    resolved_seq BIGINT NOT NULL,
    resolved_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);

CREATE TABLE turns (
    id TEXT NOT NULL PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id),
    seq BIGINT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('user', 'agent', 'bot')),
    -- Personal data is masked before a text comes here.
    text_masked TEXT NOT NULL,
    -- The caller's id of a user turn; with it the exact answer, so that a repeated message gets the same one.
    message_id TEXT,
    response_json TEXT,
    sentiment_negative DOUBLE PRECISION,
    sentiment_neutral DOUBLE PRECISION,
    sentiment_positive DOUBLE PRECISION,
    intent TEXT,
    intent_probability DOUBLE PRECISION,
    decision TEXT,
    reason TEXT,
    knowledge_id TEXT,
    model TEXT,
    -- The person who wrote an agent turn.
    author TEXT,
    created_at BIGINT NOT NULL,
    UNIQUE (session_id, seq),
    UNIQUE (session_id, message_id)
);

CREATE TABLE tickets (
    id TEXT NOT NULL PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id),
    status TEXT NOT NULL CHECK (status IN ('new', 'assigned', 'in_progress', 'resolved')),
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    priority TEXT NOT NULL CHECK (priority IN ('low', 'medium', 'high', 'urgent')),
    intent TEXT,
    intent_probability DOUBLE PRECISION,
    sentiment_negative DOUBLE PRECISION,
    sentiment_neutral DOUBLE PRECISION,
    sentiment_positive DOUBLE PRECISION,
    model TEXT NOT NULL,
    -- The turns that led to it: from the first unsettled one to the message that was handed over.
    from_seq BIGINT NOT NULL,
    to_seq BIGINT NOT NULL,
    assignee TEXT,
    -- The key with which it was taken: a reply without a name comes from whoever holds that key.
    assignee_key TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    taken_at BIGINT,
    first_reply_at BIGINT,
    resolved_at BIGINT
);

-- One open ticket per session, whatever the number of replicas.
CREATE UNIQUE INDEX tickets_one_open_per_session ON tickets (session_id) WHERE status <> 'resolved';

CREATE INDEX tickets_by_status ON tickets (status, id);

-- Only ever appended to.
CREATE TABLE ticket_events (
    ticket_id TEXT NOT NULL REFERENCES tickets (id),
    seq BIGINT NOT NULL,
    kind TEXT NOT NULL,
    actor TEXT NOT NULL,
    data TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (ticket_id, seq)
);

CREATE TABLE api_keys (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('caller', 'agent', 'admin')),
    -- SHA-256 of the key; the key itself is kept nowhere.
    hash TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);
