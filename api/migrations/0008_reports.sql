-- What the reports count. Facts are written with what they tell of, in one transaction, because a report over a month would
-- otherwise read the whole history of every ticket.

-- One row per thing that happened to a ticket and is counted. Team and agent are those of that moment; category and priority are
-- put right when people put them right.
CREATE TABLE report_facts (
    ticket_id TEXT NOT NULL REFERENCES tickets (id),
    seq BIGINT NOT NULL,
    -- Kind of the event; `first_reply` for the first of several `agent_reply`.
    kind TEXT NOT NULL,
    at BIGINT NOT NULL,
    team TEXT,
    agent TEXT,
    channel TEXT NOT NULL,
    category TEXT,
    priority TEXT NOT NULL,
    reason TEXT NOT NULL,
    -- Milliseconds without those spent waiting for the customer (`first_reply`, `resolved`), or the score (`rated`).
    value BIGINT,
    -- Of a reply that came from a suggestion: used or edited.
    suggestion TEXT,
    PRIMARY KEY (ticket_id, seq)
);

-- With all that reports read, so that none of them looks at the rows themselves.
CREATE INDEX report_facts_by_time ON report_facts
(kind, at, team, agent, channel, category, priority, reason, value, suggestion);

-- The same from the history: the one definition of a fact. A resolution is timed from the opening, or the last time it began
-- again. JSON is written by this program, without spaces; what people name their fields comes in `amended` only.
CREATE VIEW told_facts AS
SELECT
    e.ticket_id,
    e.seq,
    CASE
        WHEN e.kind = 'agent_reply' AND NOT EXISTS (
            SELECT 1 FROM ticket_events earlier
            WHERE earlier.ticket_id = e.ticket_id AND earlier.seq < e.seq AND earlier.kind = 'agent_reply'
        ) THEN 'first_reply'
        ELSE e.kind
    END AS kind,
    e.at,
    t.team,
    t.last_assignee AS agent,
    s.channel,
    t.category,
    t.priority,
    t.reason,
    CASE
        WHEN e.kind = 'rated' THEN (SELECT r.score FROM ratings r WHERE r.ticket_id = e.ticket_id)
        WHEN e.kind = 'resolved' OR (e.kind = 'agent_reply' AND NOT EXISTS (
            SELECT 1 FROM ticket_events earlier
            WHERE earlier.ticket_id = e.ticket_id AND earlier.seq < e.seq AND earlier.kind = 'agent_reply'
        )) THEN e.at
            - CASE WHEN e.kind = 'resolved' THEN COALESCE((
                SELECT MAX(again.at) FROM ticket_events again
                WHERE again.ticket_id = e.ticket_id AND again.seq < e.seq AND again.kind = 'reopened'
            ), t.created_at) ELSE t.created_at END
            - COALESCE((
                SELECT CAST(SUM(COALESCE((
                    SELECT MIN(went_on.at) FROM ticket_events went_on
                    WHERE went_on.ticket_id = wait.ticket_id AND went_on.seq > wait.seq AND went_on.kind <> 'amended'
                        AND went_on.before LIKE '%"status":"waiting_customer"%'
                ), e.at) - wait.at) AS BIGINT)
                FROM ticket_events wait
                WHERE wait.ticket_id = e.ticket_id AND wait.seq < e.seq AND wait.kind = 'waiting'
                    AND (e.kind <> 'resolved' OR wait.seq > COALESCE((
                        SELECT MAX(again.seq) FROM ticket_events again
                        WHERE again.ticket_id = e.ticket_id AND again.seq < e.seq AND again.kind = 'reopened'
                    ), 0))
            ), 0)
    END AS value,
    CASE
        WHEN e.kind <> 'agent_reply' OR e.data NOT LIKE '%"suggestion":{%' THEN NULL
        WHEN e.data LIKE '%"edited":true%' THEN 'edited'
        ELSE 'used'
    END AS suggestion
FROM ticket_events e
JOIN tickets t ON t.id = e.ticket_id
JOIN sessions s ON s.id = t.session_id
WHERE e.kind IN ('opened', 'taken', 'accepted', 'agent_reply', 'resolved', 'closed', 'reopened', 'merged', 'rated');

INSERT INTO report_facts SELECT * FROM told_facts;

-- When the bot first answered, and when people first had to.
ALTER TABLE sessions ADD COLUMN answered_at BIGINT;
ALTER TABLE sessions ADD COLUMN handed_over_at BIGINT;

UPDATE sessions SET
    answered_at = (
        SELECT MIN(t.created_at) FROM turns t WHERE t.session_id = sessions.id AND t.role = 'bot' AND t.decision = 'reply'
    ),
    handed_over_at = (SELECT MIN(t.created_at) FROM tickets t WHERE t.session_id = sessions.id);

CREATE INDEX sessions_by_start ON sessions (created_at, channel, answered_at, handed_over_at);

-- What the bot answered: once per session and intent.
CREATE TABLE session_answers (
    session_id TEXT NOT NULL REFERENCES sessions (id),
    intent TEXT NOT NULL,
    at BIGINT NOT NULL,
    channel TEXT NOT NULL,
    -- When people first had to, as in the session.
    handed_over_at BIGINT,
    PRIMARY KEY (session_id, intent)
);

INSERT INTO session_answers
SELECT bot.session_id, customer.intent, MIN(bot.created_at), s.channel, s.handed_over_at
FROM turns bot
JOIN turns customer ON customer.session_id = bot.session_id AND customer.seq = bot.seq - 1 AND customer.role = 'user'
JOIN sessions s ON s.id = bot.session_id
WHERE bot.role = 'bot' AND bot.decision = 'reply' AND customer.intent IS NOT NULL
GROUP BY bot.session_id, customer.intent, s.channel, s.handed_over_at;

CREATE INDEX session_answers_by_time ON session_answers (at, intent, channel, handed_over_at);

-- Turns of each finished hour, which begins at `hour`. Turns never change, so neither do these.
CREATE TABLE turn_hours (
    hour BIGINT NOT NULL,
    channel TEXT NOT NULL,
    role TEXT NOT NULL,
    -- Empty where nothing was decided.
    decision TEXT NOT NULL,
    turns BIGINT NOT NULL,
    PRIMARY KEY (hour, channel, role, decision)
);

CREATE INDEX turns_by_time ON turns (created_at);

-- Counts tickets in the order in which they were opened: what the search knows them by.
ALTER TABLE tickets ADD COLUMN number BIGINT;

UPDATE tickets SET number = counted.number
FROM (SELECT id AS ticket_id, ROW_NUMBER() OVER (ORDER BY id) AS number FROM tickets) counted
WHERE counted.ticket_id = tickets.id;

CREATE INDEX tickets_by_number ON tickets (number);

CREATE INDEX tickets_by_category ON tickets (category, id);
CREATE INDEX tickets_by_priority ON tickets (priority, id);

-- How far work on tables of this file has come. turn_hours: hours up to this moment are counted. ticket_search: 1 when its table
-- is made, which each database does in its own way.
CREATE TABLE report_progress (
    name TEXT NOT NULL PRIMARY KEY,
    done BIGINT NOT NULL
);

INSERT INTO report_progress (name, done) VALUES ('turn_hours', 0), ('ticket_search', 0);
