//! What a session of a role would be told of a query string: by the very ruling that
//! sessions have.

use std::sync::Arc;

use jiff::Timestamp;

use super::database::enforcement;
use crate::{
    cli::failure::{Exit, Failure},
    policy::{self, Role, Target, Verdict},
    proxy::{OnRows, Ruling},
    sql::Catalog,
};

/// A role on one database, ready to decide.
#[derive(Debug)]
pub(super) struct Judge {
    ruling: Ruling,
}

/// The verdict, and the text that PostgreSQL would get where masks change it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Decision {
    pub(super) verdict: Verdict,
    pub(super) rewritten: Option<String>,
    /// What hangs on how many rows it hits.
    pub(super) on_rows: Vec<OnRows>,
}

impl Judge {
    /// For sessions of a role on a target with this catalog.
    pub(super) fn new(role: &Role, target: &Target, catalog: &Catalog) -> Result<Self, Failure> {
        let refused = |error: String| {
            let message = format!("role \"{}\" on target \"{}\": {error}", role.name, target.name);
            Failure::new(Exit::Failure, "policy_misfit", message).hint(
                "no session can be opened under this role; `pgate policy check --target` says what \
                 mends it",
            )
        };
        // As the proxy does when a session begins.
        policy::bound(role, catalog).map_err(|error| refused(error.to_string()))?;
        let catalog = catalog_of_session(role, catalog);
        let ruling = Ruling::first(Arc::new(role.clone()), catalog, enforcement(target))
            .map_err(|error| refused(error.to_string()))?;
        Ok(Self { ruling })
    }

    /// Decides as of a moment, as if PostgreSQL expected it to hit so many rows; none
    /// leaves that open. Needs the large stack.
    pub(super) fn decide(&self, sql: &str, at: Timestamp, rows: Option<u64>) -> Decision {
        let decided = self.ruling.decide(&Arc::from(sql), at);
        Decision {
            verdict: decided.verdict_on(rows),
            rewritten: decided.rewritten().map(str::to_owned),
            on_rows: decided.on_rows(),
        }
    }
}

/// The catalog under the search path that the role's sessions have.
pub(super) fn catalog_of_session(role: &Role, catalog: &Catalog) -> Catalog {
    if role.search_path.is_empty() {
        return catalog.clone();
    }
    // PostgreSQL searches pg_catalog first unless the path names it.
    let mut path = role.search_path.clone();
    if !path.iter().any(|schema| schema == "pg_catalog") {
        path.insert(0, "pg_catalog".to_owned());
    }
    catalog.with_search_path(path)
}

/// `allow`, `hold` or `deny`.
pub(super) fn word(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Allow(_) => "allow",
        Verdict::Hold(_) => "hold",
        Verdict::Deny(_) => "deny",
    }
}
