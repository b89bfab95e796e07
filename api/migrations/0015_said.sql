-- What a person of the desk wrote, where masking changed it: the customer reads their words, and after a month nobody does.
ALTER TABLE turns ADD COLUMN said TEXT;

CREATE INDEX turns_said ON turns (created_at) WHERE said IS NOT NULL;

-- Turns of a session while the ticket was done, [after, until]: no business of an organisation that it is shared with. Of tickets
-- that were reopened before there was this column, all from the first resolution to the last reopening.
ALTER TABLE tickets ADD COLUMN gaps TEXT NOT NULL DEFAULT '[]';

UPDATE tickets SET gaps = '[[' || COALESCE((
        SELECT MAX(u.seq) FROM turns u WHERE u.session_id = tickets.session_id AND u.created_at <= (
            SELECT MIN(e.at) FROM ticket_events e WHERE e.ticket_id = tickets.id AND e.kind = 'resolved')
    ), 0) || ',' || COALESCE((
        SELECT MAX(u.seq) FROM turns u WHERE u.session_id = tickets.session_id AND u.created_at <= (
            SELECT MAX(e.at) FROM ticket_events e WHERE e.ticket_id = tickets.id AND e.kind = 'reopened')
    ), 0) || ']]'
WHERE reopened > 0;

-- Whether a person gave it to its assignee, and not routing.
ALTER TABLE tickets ADD COLUMN by_hand BIGINT NOT NULL DEFAULT 0;

-- The few tickets that ever waited for their customer, without reading what happened to all.
CREATE INDEX ticket_events_waiting ON ticket_events (ticket_id) WHERE kind = 'waiting';
