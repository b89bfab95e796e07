-- What the reply store is filled from. The store holds one release; this holds all of them, who made them, and what is not
-- published yet.

CREATE TABLE knowledge_releases (
    release BIGINT NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL CHECK (kind IN ('publish', 'import', 'rollback')),
    -- Of a rollback: the release whose content it brought back.
    restores BIGINT,
    state TEXT NOT NULL CHECK (state IN ('writing', 'published', 'failed')),
    author TEXT NOT NULL,
    note TEXT NOT NULL,
    -- Entries that it changes, and how many of them are written.
    changes BIGINT NOT NULL,
    done BIGINT NOT NULL,
    -- Entries in the whole release.
    entries BIGINT NOT NULL,
    problem TEXT,
    created_at BIGINT NOT NULL,
    -- Moves while it is being written: whoever stopped moving has stopped.
    updated_at BIGINT NOT NULL
);

-- One at a time, whatever the number of replicas.
CREATE UNIQUE INDEX knowledge_releases_one_in_writing ON knowledge_releases (state) WHERE state = 'writing';

-- Only ever appended to; what moves is the state.
CREATE TABLE knowledge_versions (
    entry_id TEXT NOT NULL,
    version BIGINT NOT NULL,
    -- draft: to be published. writing: being published. published: in the current release. past: was in one. discarded: never was.
    state TEXT NOT NULL CHECK (state IN ('draft', 'writing', 'published', 'past', 'discarded')),
    -- JSON of the entry; NULL where the entry is removed.
    body TEXT,
    wordings BIGINT NOT NULL,
    author TEXT NOT NULL,
    note TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    -- In all releases from the first one up to, and without, the second.
    from_release BIGINT,
    to_release BIGINT,
    PRIMARY KEY (entry_id, version)
);

CREATE UNIQUE INDEX knowledge_versions_one_draft ON knowledge_versions (entry_id) WHERE state = 'draft';
CREATE UNIQUE INDEX knowledge_versions_one_published ON knowledge_versions (entry_id) WHERE state = 'published';
CREATE INDEX knowledge_versions_by_state ON knowledge_versions (state, entry_id);
