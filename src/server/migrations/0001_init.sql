-- Times are microseconds since 1970, UTC.
CREATE TABLE grants (
    id           TEXT PRIMARY KEY,
    issuer       TEXT NOT NULL,
    subject      TEXT NOT NULL,
    target       TEXT NOT NULL,
    role         TEXT NOT NULL,
    state        TEXT NOT NULL,
    requested_at INTEGER NOT NULL,
    lapses_at    INTEGER NOT NULL,
    -- One more with every change: what a compare-and-set compares.
    version      INTEGER NOT NULL,
    -- Who may approve it, as the access rule said when it was asked for; NULL: the policy did.
    reviewers    TEXT,
    document     TEXT NOT NULL
) STRICT;
CREATE INDEX grants_by_owner ON grants (issuer, subject, requested_at DESC);
CREATE INDEX grants_by_state ON grants (state, lapses_at);

CREATE TABLE sessions (
    id           TEXT PRIMARY KEY,
    grant_id     TEXT NOT NULL REFERENCES grants (id),
    issuer       TEXT NOT NULL,
    subject      TEXT NOT NULL,
    identity     TEXT NOT NULL,
    target       TEXT NOT NULL,
    role         TEXT NOT NULL,
    reason       TEXT NOT NULL,
    -- SHA-256 of the role's policy document, which stands in policies.
    policy       TEXT NOT NULL,
    opened_at    INTEGER NOT NULL,
    expires_at   INTEGER NOT NULL,
    -- The last sign of life of its client.
    seen_at      INTEGER NOT NULL,
    state        TEXT NOT NULL,
    ended_at     INTEGER,
    end_reason   TEXT,
    -- SHA-256 of the upload token.
    upload_token BLOB NOT NULL,
    -- journal::Receiver and the last journal::Receipt, JSON.
    log          TEXT NOT NULL,
    receipt      TEXT,
    lines        INTEGER NOT NULL DEFAULT 0,
    statements   INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX sessions_by_owner ON sessions (issuer, subject, opened_at DESC);
CREATE INDEX sessions_by_grant ON sessions (grant_id);
CREATE INDEX sessions_by_state ON sessions (state, expires_at);
CREATE INDEX sessions_by_age ON sessions (opened_at DESC);

-- Every policy document that a session ran under, so that a log can be explained later.
CREATE TABLE policies (
    version  TEXT PRIMARY KEY,
    document TEXT NOT NULL
) STRICT;

-- A session's database role, written before the role is created: what a crash
-- leaves is found here.
CREATE TABLE leases (
    name       TEXT NOT NULL,
    target     TEXT NOT NULL,
    database   TEXT NOT NULL,
    session    TEXT NOT NULL,
    -- Where the administrator's URL is found (env:NAME, file:PATH), never the URL.
    admin      TEXT NOT NULL,
    -- Who inherits what the session created; NULL: nobody.
    owner      TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    dropped_at INTEGER,
    PRIMARY KEY (target, name)
) STRICT;
CREATE INDEX leases_open ON leases (dropped_at, expires_at);

-- Privilege roles that were installed, one for each role and policy version.
CREATE TABLE privilege_roles (
    target  TEXT NOT NULL,
    name    TEXT NOT NULL,
    PRIMARY KEY (target, name)
) STRICT;
