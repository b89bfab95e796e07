-- What comes after a ticket: surveys, and interventions while and after it is worked on.

-- Secrets of ours that all replicas share, in hex. Whoever asks first makes one.
CREATE TABLE secrets (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

-- Whom we ask, and what they said. One that was not sent in time, or is pointless by then, is removed.
CREATE TABLE surveys (
    id TEXT NOT NULL PRIMARY KEY,
    ticket_id TEXT NOT NULL REFERENCES tickets (id),
    -- csat or nps
    kind TEXT NOT NULL,
    session_id TEXT NOT NULL REFERENCES sessions (id),
    user_id TEXT,
    due_at BIGINT NOT NULL,
    sent_at BIGINT,
    expires_at BIGINT NOT NULL,
    answered_at BIGINT,
    -- csat: 1 to 5; nps: 0 to 10
    score BIGINT,
    -- JSON: a list of texts
    reasons TEXT NOT NULL,
    -- Personal data is masked.
    comment TEXT,
    UNIQUE (ticket_id, kind)
);

CREATE INDEX surveys_to_send ON surveys (due_at) WHERE sent_at IS NULL;
CREATE INDEX surveys_by_answer ON surveys (kind, answered_at, score);

-- When each customer was last asked how likely they recommend us.
CREATE TABLE survey_invitations (
    user_id TEXT NOT NULL PRIMARY KEY,
    at BIGINT NOT NULL
);

-- What a rule did about a ticket, once each.
CREATE TABLE interventions (
    id TEXT NOT NULL PRIMARY KEY,
    ticket_id TEXT NOT NULL REFERENCES tickets (id),
    rule TEXT NOT NULL,
    -- senior_agent, supervisor_alert or coupon
    action TEXT NOT NULL,
    -- done, pending, failed or refused
    state TEXT NOT NULL,
    user_id TEXT,
    -- Of coupons: what it costs, and the Chinese month whose budget pays, such as 2026-01.
    amount_fen BIGINT NOT NULL,
    month TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    -- Of alerts.
    acknowledged_at BIGINT,
    acknowledged_by TEXT,
    UNIQUE (ticket_id, rule)
);

CREATE INDEX interventions_pending ON interventions (next_at) WHERE state = 'pending';
CREATE INDEX interventions_alerts ON interventions (id) WHERE action = 'supervisor_alert' AND acknowledged_at IS NULL;

-- What coupons cost in a month, those that are on their way included.
CREATE TABLE intervention_budgets (
    rule TEXT NOT NULL,
    month TEXT NOT NULL,
    spent_fen BIGINT NOT NULL,
    PRIMARY KEY (rule, month)
);

-- How many coupons a customer got in a month, those on their way included.
CREATE TABLE intervention_customers (
    rule TEXT NOT NULL,
    month TEXT NOT NULL,
    user_id TEXT NOT NULL,
    coupons BIGINT NOT NULL,
    PRIMARY KEY (rule, month, user_id)
);

-- Interventions look at ratings of the last day.
CREATE INDEX ratings_by_time ON ratings (created_at);
CREATE INDEX tickets_resolved ON tickets (resolved_at) WHERE status = 'resolved';
