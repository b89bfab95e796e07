-- What is told to systems of others: messages about tickets, and tickets at service desks.

CREATE TABLE webhooks (
    id TEXT NOT NULL PRIMARY KEY,
    -- Tells the deliveries of one event apart.
    number BIGINT NOT NULL UNIQUE,
    address TEXT NOT NULL,
    -- Signs every message, so it is kept as it is.
    secret TEXT NOT NULL,
    -- JSON: kinds of events; an empty list stands for all.
    events TEXT NOT NULL,
    -- 0 while nothing is sent.
    active BIGINT NOT NULL,
    -- Attempts that failed since the last one that did not.
    failures BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL
);

-- One row per event and webhook, written with the event in one transaction. No reference to the webhook: an event must not wait for
-- the webhook's removal; what is left behind then is forgotten with the rest.
CREATE TABLE webhook_deliveries (
    id TEXT NOT NULL PRIMARY KEY,
    webhook_id TEXT NOT NULL,
    ticket_id TEXT NOT NULL,
    -- The event in the ticket's history, and its kind.
    seq BIGINT NOT NULL,
    event TEXT NOT NULL,
    -- pending, done or dead
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    -- When it is tried next. While an attempt is under way: when that one is given up.
    next_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    finished_at BIGINT,
    -- What came of the last attempt: the HTTP status, and one word for what was wrong.
    status BIGINT,
    problem TEXT
);

CREATE INDEX webhook_deliveries_waiting ON webhook_deliveries (webhook_id, next_at) WHERE state = 'pending';
CREATE INDEX webhook_deliveries_by_ticket ON webhook_deliveries (webhook_id, ticket_id, state, seq);
CREATE INDEX webhook_deliveries_by_state ON webhook_deliveries (state, finished_at);

-- Tickets that are handed to a service desk. `round` counts how often the ticket began again: each time it is a new one there.
CREATE TABLE service_desk_tickets (
    ticket_id TEXT NOT NULL REFERENCES tickets (id),
    service_desk TEXT NOT NULL,
    round BIGINT NOT NULL,
    -- What it can be found by there.
    reference TEXT NOT NULL,
    -- The same words at every attempt.
    summary TEXT NOT NULL,
    description TEXT NOT NULL,
    -- 1 once a call was begun whose outcome is not known: look there before it is made again.
    begun BIGINT NOT NULL,
    attempts BIGINT NOT NULL,
    -- When it is tried next, or asked about.
    next_at BIGINT NOT NULL,
    -- What it is called there, and how it stands.
    remote_id TEXT,
    remote_status TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (ticket_id, service_desk, round)
);

CREATE INDEX service_desk_tickets_due ON service_desk_tickets (service_desk, next_at);
