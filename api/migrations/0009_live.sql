-- What each side of a session has received and read over a socket, and when it was there. Every number only grows, so that what
-- several replicas know is put together by taking the largest.
CREATE TABLE live_sides (
    session_id TEXT NOT NULL REFERENCES sessions (id),
    -- customer or agent
    side TEXT NOT NULL,
    received_seq BIGINT NOT NULL,
    read_seq BIGINT NOT NULL,
    typing_at BIGINT NOT NULL,
    seen_at BIGINT NOT NULL,
    left_at BIGINT NOT NULL,
    PRIMARY KEY (session_id, side)
);

-- The id that an agent's side gave a reply: the same one is stored once.
ALTER TABLE turns ADD COLUMN reply_id TEXT;

CREATE UNIQUE INDEX turns_by_reply ON turns (session_id, reply_id) WHERE reply_id IS NOT NULL;
