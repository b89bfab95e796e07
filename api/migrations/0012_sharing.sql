-- Files beside a conversation, and partners outside the house who see what is shared with them.

CREATE TABLE attachments (
    id TEXT NOT NULL PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id),
    -- The turn that it came with. None: only colleagues see it, in the history of the ticket.
    seq BIGINT,
    ticket_id TEXT REFERENCES tickets (id),
    -- Whose colleagues; none: the house's. Only where there is no turn.
    organisation TEXT,
    name TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size BIGINT NOT NULL,
    -- PostgreSQL's word for bytes. SQLite knows no such type and keeps bytes as they are.
    content BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE INDEX attachments_by_session ON attachments (session_id, seq);
CREATE INDEX attachments_by_time ON attachments (session_id, created_at);

CREATE TABLE organisations (
    id TEXT NOT NULL PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    -- The team whose queue is theirs.
    team TEXT NOT NULL UNIQUE,
    created_at BIGINT NOT NULL
);

ALTER TABLE users ADD COLUMN organisation TEXT REFERENCES organisations (id);
ALTER TABLE api_keys ADD COLUMN organisation TEXT REFERENCES organisations (id);

-- What an organisation may see of a ticket. What is taken back is removed; the history of the ticket tells of it.
CREATE TABLE ticket_shares (
    ticket_id TEXT NOT NULL REFERENCES tickets (id),
    organisation TEXT NOT NULL REFERENCES organisations (id),
    -- summary, conversation or everything
    sees TEXT NOT NULL,
    -- The session's last turn when it was shared: who sees the conversation sees what comes after it.
    after_seq BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (ticket_id, organisation)
);

CREATE INDEX ticket_shares_by_organisation ON ticket_shares (organisation, ticket_id);
