//! Policy: what a role may do, as typed rules; the decision on a statement's
//! facts; and what a role compiles to inside PostgreSQL.
//!
//! Owns the policy files' language, [`Role`] (the document that travels to the
//! proxy), `decide` and `compile`. It refuses to read files, connect anywhere or
//! ask the time: those come in as parameters. Default is deny; `deny` beats
//! `hold` beats `allow`; what can't be resolved or classified is denied.

pub mod check_digits;
mod compile;
mod condition;
mod decide;
mod document;
mod examine;
mod explain;
mod hosts;
mod layers;
mod masking;
mod model;
mod pace;
mod parse;
mod standing;
mod verdict;

pub use compile::{
    CompileError, Compiled, Enforcement, Misfit, PRIVILEGE_ROLE_PREFIX, Unbound, bound, compile,
    foreseen,
};
pub use condition::{Condition, Day, Hours, Window};
pub use decide::{Counted, Decision, RowRule, decide, refuse_at_startup, refuse_parameter};
pub use document::DocumentError;
pub use examine::{
    Definer, Finding, Holding, Mend, Personal, SURVEY_QUERY, Sample, Severity, Survey,
    SurveyDocumentError, columns_to_sample, examine,
};
pub use explain::{
    Explained, ExplainedFunction, ExplainedRelation, ExplainedSetting, ExplainedValue,
    FunctionOrigin, enforcers, explain,
};
pub use hosts::host_list;
pub use layers::{Enforced, Layer, layers};
pub use masking::{MaskError, Source, expression};
pub use model::{
    Access, AccessApproval, Audit, Credential, Detector, HOLD_SECONDS, Limits, MaskKind, MaskRule,
    Pattern, PatternError, Policy, Predicates, Record, Reviewers, Role, Rule, SecretRef, Target,
    Who,
};
pub use pace::{Pace, TooFast};
pub use parse::{Case, CaseFile, Expected, PolicyError, is_policy_file, parse, parse_cases};
pub use verdict::{Allowed, Denied, Held, RuleRef, Verdict};
