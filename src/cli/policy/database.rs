//! Which database a policy is held against: a target that is reached, or a catalog
//! that was saved.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use secrecy::SecretString;
use zeroize::Zeroizing;

use crate::{
    cli::failure::{Exit, Failure},
    policy::{Credential, Enforcement, Policy, Role, Target},
    server::{SurveyError, Surveyor},
    sql::{Catalog, Oid},
};

/// The environment's connection URL.
const VARIABLE: &str = "PGATE_DATABASE_URL";

/// Where the database or its catalog is.
#[derive(Debug, clap::Args)]
pub(super) struct Database {
    /// The target of the policy
    #[arg(long, value_name = "NAME")]
    pub(super) target: Option<String>,

    /// A file with the URL of the connection to use instead of the target's own credential;
    /// a role that may only read is enough [env: PGATE_DATABASE_URL]
    #[arg(long, value_name = "FILE")]
    pub(super) database_url_file: Option<PathBuf>,
}

impl Database {
    /// The target that is named, checked against the policy.
    pub(super) fn target<'p>(&self, policy: &'p Policy) -> Result<Option<&'p Target>, Failure> {
        let Some(name) = &self.target else { return Ok(None) };
        match policy.targets.get(name) {
            Some(target) => Ok(Some(target)),
            None => Err(unknown("target", name, policy.targets.keys())),
        }
    }

    /// A connection: by the file, else by the environment's URL, else by the target's
    /// own credential.
    pub(super) async fn connect(
        &self,
        target: Option<&Target>,
        folder: &Path,
    ) -> Result<Surveyor, Failure> {
        let surveyor = match (self.url()?, target) {
            (Some(url), target) => Surveyor::by_url(target, &url).await,
            (None, Some(target)) => Surveyor::by_credential(target, folder).await,
            (None, None) => return Err(nowhere()),
        };
        Ok(surveyor?)
    }

    fn url(&self) -> Result<Option<SecretString>, Failure> {
        if let Some(path) = &self.database_url_file {
            let read = std::fs::read_to_string(path);
            let text = Zeroizing::new(read.with_context(|| format!("reading {}", path.display()))?);
            return Ok(Some(SecretString::from(text.trim().to_owned())));
        }
        let variable = std::env::var(VARIABLE).ok().filter(|url| !url.is_empty());
        Ok(variable.map(SecretString::from))
    }

    /// The catalog of the file where one is named, else of the database.
    pub(super) async fn catalog(
        &self,
        saved: Option<&Path>,
        target: Option<&Target>,
        folder: &Path,
    ) -> Result<Catalog, Failure> {
        if let Some(path) = saved {
            return read_catalog(path);
        }
        let document = self.connect(target, folder).await?.catalog().await?;
        catalog_of(&document, "the database")
    }
}

impl From<SurveyError> for Failure {
    fn from(error: SurveyError) -> Self {
        let hint = error.hint();
        Failure::new(Exit::Failure, "database", error.to_string()).hint(hint)
    }
}

/// Reads a catalog that `pgate policy catalog` has saved.
pub(super) fn read_catalog(path: &Path) -> Result<Catalog, Failure> {
    let shown = path.display().to_string();
    let text = std::fs::read_to_string(path).with_context(|| format!("reading {shown}"))?;
    catalog_of(&text, &shown)
}

pub(super) fn catalog_of(document: &str, shown: &str) -> Result<Catalog, Failure> {
    Catalog::from_json(document).map_err(|error| {
        Failure::new(Exit::Failure, "catalog", format!("{shown}: {error}"))
            .hint("save it anew: pgate policy catalog POLICY --target NAME")
    })
}

fn nowhere() -> Failure {
    Failure::usage("no database is named").hint(
        "name a target of the policy (--target NAME), or a catalog that was saved with \
         `pgate policy catalog` (--catalog FILE)",
    )
}

/// There is no such role or target in the policy.
pub(super) fn unknown<'n>(
    kind: &str,
    name: &str,
    known: impl Iterator<Item = &'n String>,
) -> Failure {
    let known = known.map(String::as_str).collect::<Vec<_>>();
    let hint = match known.as_slice() {
        [] => format!("the policy has no {kind}"),
        known => format!("the policy has {}", known.join(", ")),
    };
    Failure::usage(format!("the policy has no {kind} \"{name}\"")).hint(hint)
}

/// The role of this name.
pub(super) fn role<'p>(policy: &'p Policy, name: &str) -> Result<&'p Role, Failure> {
    policy.roles.get(name).ok_or_else(|| unknown("role", name, policy.roles.keys()))
}

/// The target on which a role is looked at: the one that is named, else the role's first.
pub(super) fn target_of<'p>(
    policy: &'p Policy,
    role: &Role,
    named: Option<&str>,
) -> Result<&'p Target, Failure> {
    if let Some(name) = named
        && !role.targets.iter().any(|target| target == name)
    {
        let message = format!("role \"{}\" is not for target \"{name}\"", role.name);
        let hint = format!("it is for {}", role.targets.join(", "));
        return Err(Failure::usage(message).hint(hint));
    }
    let name = named.or(role.targets.first().map(String::as_str)).unwrap_or_default();
    policy.targets.get(name).ok_or_else(|| unknown("target", name, policy.targets.keys()))
}

/// Who stands behind a target's masks.
pub(super) fn enforcement(target: &Target) -> Enforcement {
    match target.credential {
        Credential::Ephemeral { .. } => Enforcement::Ephemeral,
        Credential::Static { .. } => Enforcement::Static,
    }
}

/// Whether any relation of the catalog lies outside PostgreSQL's own schemas.
pub(super) fn is_empty(catalog: &Catalog) -> bool {
    !catalog.relations().any(|relation| relation.oid >= Oid(16_384))
}
