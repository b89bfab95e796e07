-- The whole life of a ticket. SQLite cannot change a CHECK, so both tables are made anew; the program knows the states.

CREATE TABLE tickets_anew (
    id TEXT NOT NULL PRIMARY KEY,
    session_id TEXT NOT NULL REFERENCES sessions (id),
    -- escalation, form or agent
    source TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    detail TEXT NOT NULL,
    priority TEXT NOT NULL,
    -- What it is about; begins as the intent.
    category TEXT,
    team TEXT,
    -- JSON: a list of texts, and an object.
    tags TEXT NOT NULL,
    fields TEXT NOT NULL,
    merged_into TEXT,
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
    -- The key or account with which it was taken: a reply without a name comes from whoever holds it.
    assignee_key TEXT,
    -- 0 while it is only offered to the assignee.
    accepted BIGINT NOT NULL,
    last_assignee TEXT,
    -- JSON: names of those who were offered it and did not take it.
    declined TEXT NOT NULL,
    vip BIGINT NOT NULL,
    reopened BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    -- Since when it is in its queue; a transfer and a new beginning count from anew.
    queued_at BIGINT NOT NULL,
    assigned_at BIGINT,
    taken_at BIGINT,
    first_reply_at BIGINT,
    resolved_at BIGINT,
    closed_at BIGINT
);

INSERT INTO tickets_anew
SELECT
    id, session_id, 'escalation', status, reason, detail, priority, intent, NULL, '[]', '{}', NULL, intent, intent_probability,
    sentiment_negative, sentiment_neutral, sentiment_positive, model, from_seq, to_seq, assignee, assignee_key,
    CASE WHEN assignee IS NULL THEN 0 ELSE 1 END, assignee, '[]', 0, 0, created_at, updated_at, created_at, taken_at, taken_at, first_reply_at,
    resolved_at, NULL
FROM tickets;

-- Only ever appended to. `before` and `after` are JSON objects of what the event changed.
CREATE TABLE ticket_events_anew (
    ticket_id TEXT NOT NULL REFERENCES tickets_anew (id),
    seq BIGINT NOT NULL,
    kind TEXT NOT NULL,
    actor TEXT NOT NULL,
    reason TEXT,
    before TEXT NOT NULL,
    after TEXT NOT NULL,
    data TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (ticket_id, seq)
);

INSERT INTO ticket_events_anew
SELECT ticket_id, seq, kind, actor, NULL, '{}', '{}', data, at FROM ticket_events;

DROP TABLE ticket_events;
DROP TABLE tickets;
ALTER TABLE tickets_anew RENAME TO tickets;
ALTER TABLE ticket_events_anew RENAME TO ticket_events;

-- One open ticket per session, whatever the number of replicas.
CREATE UNIQUE INDEX tickets_one_open_per_session ON tickets (session_id)
WHERE status IN ('new', 'assigned', 'in_progress', 'waiting_customer');

CREATE INDEX tickets_by_status ON tickets (status, id);
CREATE INDEX tickets_by_assignee ON tickets (assignee, id);
CREATE INDEX tickets_by_team ON tickets (team, id);
CREATE INDEX tickets_by_session ON tickets (session_id, id);
CREATE INDEX ticket_events_by_time ON ticket_events (at);

-- Tickets that belong together. Both directions are kept.
CREATE TABLE ticket_links (
    ticket_id TEXT NOT NULL REFERENCES tickets (id),
    other_id TEXT NOT NULL REFERENCES tickets (id),
    PRIMARY KEY (ticket_id, other_id)
);

-- What people put right of what the model said: examples to train on.
CREATE TABLE corrections (
    id TEXT NOT NULL PRIMARY KEY,
    ticket_id TEXT NOT NULL REFERENCES tickets (id),
    -- The turn that was judged.
    session_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    -- intent, sentiment or priority
    field TEXT NOT NULL,
    was TEXT,
    is_now TEXT NOT NULL,
    model TEXT NOT NULL,
    author TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE INDEX corrections_by_ticket ON corrections (ticket_id, id);

-- How the customer judged the help, once per ticket.
CREATE TABLE ratings (
    ticket_id TEXT NOT NULL PRIMARY KEY REFERENCES tickets (id),
    -- 1 to 5
    score BIGINT NOT NULL,
    -- JSON: a list of texts
    reasons TEXT NOT NULL,
    -- Personal data is masked.
    comment TEXT,
    created_at BIGINT NOT NULL
);
