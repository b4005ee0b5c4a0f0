-- Browsers in which somebody has signed in.
CREATE TABLE browsers (
    -- SHA-256 of the cookie.
    token      BLOB PRIMARY KEY,
    -- SHA-256 of the sign-in's own cookie: one sign-in, one browser.
    sign_in    BLOB NOT NULL UNIQUE,
    -- grant::Identity, JSON.
    identity   TEXT NOT NULL,
    since      INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE INDEX browsers_by_end ON browsers (expires_at);
