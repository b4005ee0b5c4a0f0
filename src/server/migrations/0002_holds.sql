-- Statements that wait for a reviewer, or did.
CREATE TABLE holds (
    id         TEXT PRIMARY KEY,
    session    TEXT NOT NULL REFERENCES sessions (id),
    state      TEXT NOT NULL,
    raised_at  INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    -- One more with every change: what a compare-and-set compares.
    version    INTEGER NOT NULL,
    -- api::HoldView, JSON.
    document   TEXT NOT NULL
) STRICT;
CREATE INDEX holds_by_session ON holds (session, raised_at);
CREATE INDEX holds_by_state ON holds (state, raised_at);
