-- Who works at the desk, for routing. The name is the one that tickets are assigned to.
CREATE TABLE agents (
    name TEXT NOT NULL PRIMARY KEY,
    team TEXT NOT NULL,
    -- JSON: skills with their level, and lists of texts.
    skills TEXT NOT NULL,
    languages TEXT NOT NULL,
    channels TEXT NOT NULL,
    -- Load that they can carry at once.
    capacity BIGINT NOT NULL,
    vip_lane BIGINT NOT NULL,
    -- Name of a calendar in the settings.
    shift TEXT,
    -- online, away or offline; one who has not been seen for long is offline.
    presence TEXT NOT NULL,
    seen_at BIGINT NOT NULL,
    last_given_at BIGINT
);

-- What only one replica does at a time.
CREATE TABLE leases (
    name TEXT NOT NULL PRIMARY KEY,
    holder TEXT NOT NULL,
    until BIGINT NOT NULL
);

-- Warnings and breaches that were told, once each; `round` counts how often the ticket began again.
CREATE TABLE service_level_marks (
    ticket_id TEXT NOT NULL REFERENCES tickets (id),
    target TEXT NOT NULL,
    state TEXT NOT NULL,
    round BIGINT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY (ticket_id, target, state, round)
);

CREATE INDEX sessions_by_user ON sessions (user_id);

-- A person is known by their display name wherever tickets are assigned.
CREATE UNIQUE INDEX users_by_name ON users (name);
