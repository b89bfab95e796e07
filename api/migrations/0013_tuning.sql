-- What supervisors change of routing and targets while the service runs. Only ever appended to; the last one counts.
CREATE TABLE desk_tunings (
    version BIGINT NOT NULL PRIMARY KEY,
    -- JSON; NULL: what the configuration file says.
    tuning TEXT,
    author TEXT NOT NULL,
    note TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
