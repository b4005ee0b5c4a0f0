//! Who somebody is, as an identity provider has said it.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

/// A verified identity: who an OIDC issuer says the caller is.
///
/// Two identities are the same person or workload when issuer and subject are
/// the same; names, addresses and groups may change between tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The issuer's name in the control plane's configuration (`corp`), not its URL.
    pub issuer: String,
    /// The `sub` claim.
    pub subject: String,
    /// The `email` claim, where the issuer gives one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    /// The groups that the issuer's configured groups claim lists.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// Further string claims that access rules may match (`repository`, `ref`, …).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub claims: BTreeMap<String, String>,
}

impl Identity {
    /// Whether both are the same person or workload.
    pub fn same_as(&self, other: &Identity) -> bool {
        self.issuer == other.issuer && self.subject == other.subject
    }
}

/// The e-mail address where there is one, else the subject; then the issuer.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = self.email.as_deref().unwrap_or(&self.subject);
        write!(f, "{who} ({})", self.issuer)
    }
}
