//! What a database says of itself beyond its catalog, as plain data: who owns what, what
//! PUBLIC may do, and what sampled columns look like.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::personal::Personal;
use crate::sql::{AttributeNumber, Oid};

/// The query whose one row and column (text, JSON) [`Survey::from_json`] reads. It needs no
/// rights beyond a login, works on PostgreSQL 14 to 18 and takes no lock on tables. Run it
/// with an empty search path, so that the types of arguments are told with their schemas.
pub const SURVEY_QUERY: &str = include_str!("survey.sql");

/// A database's state, as far as it bears on what a policy promises.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Survey {
    /// What PUBLIC may do with the database.
    pub public_database: Vec<String>,
    /// The schemas, and what PUBLIC may do in each.
    pub schemas: BTreeMap<String, Vec<String>>,
    /// Relations outside PostgreSQL's own schemas.
    pub relations: BTreeMap<Oid, Holding>,
    /// What PUBLIC may do with single columns.
    pub public_columns: BTreeMap<(Oid, AttributeNumber), Vec<String>>,
    /// Functions that run with their owner's rights.
    pub definers: Vec<Definer>,
    /// Roles by name, and whether each is a superuser.
    pub roles: BTreeMap<String, bool>,
    /// Whether extended statistics show their values to the tables' owners alone
    /// (the repair of CVE-2024-4317, which databases made before it lack).
    pub statistics_repaired: bool,
    /// What the sampled columns look like; empty where nothing was sampled.
    pub samples: BTreeMap<(Oid, AttributeNumber), Sample>,
    /// Relations that could not be sampled, as `schema.table`.
    pub unsampled: Vec<String>,
}

/// Whose a relation is, and what PUBLIC may do with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holding {
    /// Its owner.
    pub owner: String,
    /// Whether that is a superuser.
    pub owner_is_superuser: bool,
    /// What PUBLIC may do with it as a whole.
    pub public: Vec<String>,
    /// Whether a view runs with the rights of whoever asks.
    pub invoker_rights: bool,
    /// A table's access method.
    pub access_method: Option<String>,
    /// Whether it came with an extension.
    pub of_extension: bool,
}

/// A SECURITY DEFINER function.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definer {
    /// Its schema.
    pub schema: String,
    /// Its name and arguments, quoted, as GRANT and REVOKE take them.
    pub signature: String,
    /// Its owner.
    pub owner: String,
    /// Whether that is a superuser.
    pub owner_is_superuser: bool,
    /// Whether PUBLIC may execute it.
    pub public: bool,
}

/// What the values of a column look like, without the values.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// How many values there were that aren't NULL or empty.
    pub values: u32,
    /// How many of them looked like what.
    pub hits: BTreeMap<Personal, u32>,
}

impl Sample {
    /// Looks at one value and forgets it.
    pub fn add(&mut self, value: &str) {
        if value.trim().is_empty() {
            return;
        }
        self.values = self.values.saturating_add(1);
        for kind in Personal::of_value(value) {
            let hits = self.hits.entry(kind).or_default();
            *hits = hits.saturating_add(1);
        }
    }
}

/// A survey's document that can't be read.
#[derive(Debug, thiserror::Error)]
#[error("what the database says of itself could not be read: {0}")]
pub struct SurveyDocumentError(#[from] serde_json::Error);

#[derive(Deserialize)]
struct Document {
    public_database: Vec<String>,
    schemas: Vec<(String, Vec<String>)>,
    relations: Vec<RelationRow>,
    columns: Vec<(Oid, AttributeNumber, Vec<String>)>,
    definers: Vec<(String, String, String, bool, bool)>,
    roles: Vec<(String, bool)>,
    statistics_repaired: bool,
}

/// OID, owner, owner is a superuser, PUBLIC's privileges, invoker's rights, access method,
/// of an extension.
#[derive(Deserialize)]
struct RelationRow(Oid, String, bool, Vec<String>, bool, Option<String>, bool);

impl Survey {
    /// Reads the document that [`SURVEY_QUERY`] returns.
    ///
    /// # Errors
    /// Where it is something else.
    pub fn from_json(text: &str) -> Result<Self, SurveyDocumentError> {
        let document = serde_json::from_str::<Document>(text)?;
        let relation = |row: RelationRow| {
            let RelationRow(
                oid,
                owner,
                owner_is_superuser,
                public,
                invoker_rights,
                access_method,
                of_extension,
            ) = row;
            let holding = Holding {
                owner,
                owner_is_superuser,
                public,
                invoker_rights,
                access_method,
                of_extension,
            };
            (oid, holding)
        };
        let definer = |(schema, signature, owner, owner_is_superuser, public)| Definer {
            schema,
            signature,
            owner,
            owner_is_superuser,
            public,
        };
        let column = |(oid, number, privileges)| ((oid, number), privileges);
        Ok(Self {
            public_database: document.public_database,
            schemas: document.schemas.into_iter().collect(),
            relations: document.relations.into_iter().map(relation).collect(),
            public_columns: document.columns.into_iter().map(column).collect(),
            definers: document.definers.into_iter().map(definer).collect(),
            roles: document.roles.into_iter().collect(),
            statistics_repaired: document.statistics_repaired,
            samples: BTreeMap::new(),
            unsampled: Vec::new(),
        })
    }
}
