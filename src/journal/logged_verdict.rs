//! A verdict as lines of the log say it.

use std::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::policy::Verdict;

/// A verdict, and its text in a log: made once, however many statements it is said of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedVerdict {
    verdict: Verdict,
    json: Box<str>,
}

impl LoggedVerdict {
    /// Its fields as a JSON object.
    pub(super) fn json(&self) -> &str {
        &self.json
    }
}

impl From<Verdict> for LoggedVerdict {
    fn from(verdict: Verdict) -> Self {
        let json = serde_json::to_string(&verdict).expect("a verdict is plain data");
        Self { verdict, json: json.into() }
    }
}

impl Deref for LoggedVerdict {
    type Target = Verdict;

    fn deref(&self) -> &Verdict {
        &self.verdict
    }
}

impl Serialize for LoggedVerdict {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.verdict.serialize(to)
    }
}

impl<'de> Deserialize<'de> for LoggedVerdict {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Ok(Verdict::deserialize(from)?.into())
    }
}
