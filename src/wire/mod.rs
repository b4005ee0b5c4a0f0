//! PostgreSQL's v3 protocol as messages and bytes.
