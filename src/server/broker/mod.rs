//! The credential broker: how a session gets to its database.
//!
//! Owns the database roles of sessions from before they exist until they are
//! gone. A lease is written before a role is created, so that whatever a crash
//! leaves behind is known; the reaper drops it. Passwords never stand in SQL
//! text, and no error that leaves this module holds an administrator's URL.

mod hosts;
pub(super) mod reach;
mod reaper;
mod role;

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use axum::http::StatusCode;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jiff::Timestamp;
use secrecy::SecretString;
use sqlx::{Connection as _, PgConnection};

use self::reach::{Address, connect, execute, secret};
pub(super) use self::reaper::reap;
use super::{
    app::random,
    problem::Refusal,
    store::{Lease, Store, StoreError},
};
use crate::{
    api::{CredentialKind, DatabaseAccess},
    grant::SessionId,
    policy::{
        self, CompileError, Compiled, Credential, Enforcement, Role, SecretRef, Target, Unbound,
    },
    sql::{CATALOG_QUERY, Catalog, CatalogError, EPOCH_QUERY},
};

/// The key of the lock under which pgate changes roles in a database, one at a time.
const LOCK: i64 = 0x7067_6174_6502;

/// Why a database role can't be made or dropped. Names the target, never a secret.
#[derive(Debug, thiserror::Error)]
pub(super) enum BrokerError {
    #[error("the credential of target \"{target}\" can't be read: {why}")]
    Secret { target: String, why: String },
    #[error("the database of target \"{target}\" can't be reached: {why}")]
    Unreachable { target: String, why: String },
    #[error("the database of target \"{target}\" refuses the control plane's login: {message}")]
    Login { target: String, message: String },
    #[error("the administrator of target \"{target}\" may not do what is needed: {message}")]
    Rights { target: String, message: String },
    #[error("the database of target \"{target}\" refused: {message} (SQLSTATE {code})")]
    Refused { target: String, code: String, message: String },
    #[error("the database of target \"{target}\" took too long")]
    TimedOut { target: String },
    #[error("on target \"{target}\": {error}")]
    Catalog { target: String, error: CatalogError },
    #[error("on target \"{target}\": {error}")]
    Compile { target: String, error: CompileError },
    #[error("on target \"{target}\": {error}")]
    Unbound { target: String, error: Unbound },
    #[error("its sessions are still there")]
    StillConnected,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<BrokerError> for Refusal {
    fn from(error: BrokerError) -> Self {
        let title = error.to_string();
        let (code, hint) = match error {
            BrokerError::Store(error) => return error.into(),
            BrokerError::Secret { .. } => (
                "target_misconfigured",
                "whoever runs the control plane must set the variable or file that the policy names",
            ),
            BrokerError::Unreachable { .. } | BrokerError::TimedOut { .. } => {
                ("target_unreachable", "try again; if it stays, ask whoever runs the database")
            }
            BrokerError::Login { .. } => (
                "target_login",
                "whoever runs the control plane must check the target's administrator URL",
            ),
            BrokerError::Rights { .. } => (
                "target_rights",
                "the administrator needs CREATEROLE and, for what it grants, ownership or GRANT OPTION",
            ),
            BrokerError::Compile { .. } => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                return Self::new(status, "policy_misfit", title)
                    .hint("whoever writes the policy must choose masks that fit these columns");
            }
            BrokerError::Unbound { .. } => {
                let status = StatusCode::UNPROCESSABLE_ENTITY;
                return Self::new(status, "policy_misfit", title)
                    .hint("whoever writes the policy must name these columns as they are now");
            }
            BrokerError::Refused { .. }
            | BrokerError::Catalog { .. }
            | BrokerError::StillConnected => {
                ("target_refused", "ask whoever runs the control plane to read its log")
            }
        };
        tracing::error!(error = title, "no database credential");
        Self::unavailable(code, title).hint(hint)
    }
}

/// The broker's own memory; what must survive it is in the store.
#[derive(Debug)]
pub(super) struct Broker {
    /// What `file:` secrets are relative to.
    folder: PathBuf,
    /// Written on every role that this control plane makes, so that it never
    /// drops another one's.
    mark: String,
    /// What was installed since the start: (target, privilege role, catalog fingerprint).
    installed: Mutex<HashSet<(String, String, String)>>,
    /// The privilege role that sessions got last: by (target, role), with the policy version.
    current: Mutex<HashMap<(String, String), (String, String)>>,
    /// What roles compiled to when their databases were found just as they had been
    /// installed for: by (target, role).
    ready: Mutex<HashMap<(String, String), Ready>>,
}

/// A role compiled against a database whose privileges are those that it compiles to.
#[derive(Debug, Clone)]
struct Ready {
    version: String,
    /// From before the catalog was read: a change since then has made it another.
    epoch: String,
    compiled: Arc<Compiled>,
}

/// What a session logs in to its database with.
struct Issued {
    user: String,
    password: SecretString,
    /// The catalog's epoch, from before the role was made.
    epoch: Option<String>,
}

/// A session that needs a database role.
pub(super) struct Opening<'a> {
    pub(super) session: &'a SessionId,
    pub(super) target: &'a Target,
    pub(super) role: &'a Role,
    /// SHA-256 of the role's document.
    pub(super) version: &'a str,
    pub(super) expires_at: Timestamp,
    pub(super) now: Timestamp,
}

impl Broker {
    pub(super) fn new(folder: PathBuf, key_id: &str) -> Self {
        Self {
            folder,
            mark: format!("pgate {key_id}"),
            installed: Mutex::default(),
            current: Mutex::default(),
            ready: Mutex::default(),
        }
    }

    /// Gets a session its way to the database.
    pub(super) async fn open(
        &self,
        store: &Store,
        opening: &Opening<'_>,
    ) -> Result<DatabaseAccess, Refusal> {
        let target = opening.target;
        let address = Address::of(target, &self.folder)?;
        let (kind, credential) = match &target.credential {
            Credential::Static { user, password } => {
                let password = match password {
                    Some(password) => secret(&target.name, password, &self.folder)?,
                    None => SecretString::from(""),
                };
                (CredentialKind::Static, Issued { user: user.clone(), password, epoch: None })
            }
            Credential::Ephemeral { admin_url } => {
                (CredentialKind::Ephemeral, self.create(store, opening, admin_url).await?)
            }
        };
        Ok(DatabaseAccess {
            host: address.host,
            port: address.port,
            further: address.further,
            target_session_attrs: address.wanted,
            database: address.database,
            user: credential.user,
            password: credential.password,
            sslmode: address.sslmode,
            ca_pem: address.ca_pem,
            sslnegotiation: address.sslnegotiation,
            channel_binding: address.channel_binding,
            client_certificate: address.client_certificate,
            credential: kind,
            catalog_epoch: credential.epoch,
        })
    }

    async fn create(
        &self,
        store: &Store,
        opening: &Opening<'_>,
        admin_url: &SecretRef,
    ) -> Result<Issued, Refusal> {
        let Opening { session, target, role, .. } = opening;
        let name = role::name(session);
        let password = SecretString::from(URL_SAFE_NO_PAD.encode(random::<32>()?));
        let salt = random::<16>()?;
        let mut connection = connect(target, admin_url, &self.folder).await?;
        let lease = Lease {
            name: name.clone(),
            target: target.name.clone(),
            database: reach::database(&target.url),
            session: session.as_str().to_owned(),
            admin: reach::reference(admin_url),
            owner: role.owner.clone(),
            created_at: opening.now,
            expires_at: opening.expires_at,
        };
        store.insert_lease(&lease).await?;
        let new = role::NewRole {
            name: &name,
            verifier: crate::wire::scram::verifier(
                secrecy::ExposeSecret::expose_secret(&password),
                &salt,
                4096,
            ),
            valid_until: opening.expires_at,
            mark: &self.mark,
            role,
        };
        let created = self.create_within(store, &mut connection, opening, &new).await;
        // A dropped connection is as good as a closed one.
        let _ = connection.close().await;
        let epoch = created?;
        tracing::info!(%session, target = target.name, name, "database role created");
        Ok(Issued { user: name, password, epoch })
    }

    /// Installs the privilege role where that is needed and creates the session's
    /// role, both or neither. Returns the catalog's epoch, if it is still the same.
    async fn create_within(
        &self,
        store: &Store,
        connection: &mut PgConnection,
        opening: &Opening<'_>,
        new: &role::NewRole<'_>,
    ) -> Result<Option<String>, BrokerError> {
        let target = &opening.target.name;
        let failed = |error| reach::told(target, error);
        let mut transaction = connection.begin().await.map_err(failed)?;
        role::lock(&mut transaction).await.map_err(failed)?;
        let epoch = sqlx::query_scalar::<_, String>(EPOCH_QUERY)
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed)?;
        let key = (target.clone(), opening.role.name.clone());
        if let Some(compiled) = self.ready(&key, opening.version, &epoch)
            && role::exists(&mut transaction, compiled.privilege_role()).await.map_err(failed)?
        {
            execute(&mut transaction, new.sql(&compiled)).await.map_err(failed)?;
            transaction.commit().await.map_err(failed)?;
            return Ok(Some(epoch));
        }
        let document = sqlx::query_scalar::<_, String>(CATALOG_QUERY)
            .fetch_one(&mut *transaction)
            .await
            .map_err(failed)?;
        let (compiled, fingerprint) = compile(opening, document).await?;
        let privilege_role = compiled.privilege_role().to_owned();
        store.note_privilege_role(target, &privilege_role).await?;
        let installed = (target.clone(), privilege_role.clone(), fingerprint);
        let in_place = self.is_installed(&installed)
            && role::exists(&mut transaction, &privilege_role).await.map_err(failed)?;
        if !in_place {
            let sql = compiled.install_sql(&privilege_role).join(";\n");
            execute(&mut transaction, sql).await.map_err(failed)?;
        }
        execute(&mut transaction, new.sql(&compiled)).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        self.remember(installed, opening);
        // An installation changes the epoch itself, so the next opening looks once more.
        if !in_place {
            return Ok(None);
        }
        let version = opening.version.to_owned();
        let ready = Ready { version, epoch: epoch.clone(), compiled: Arc::new(compiled) };
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).insert(key, ready);
        Ok(Some(epoch))
    }

    /// What a role compiles to, where nothing in the database has changed since its
    /// privileges were found in place.
    ///
    /// Privileges are columns of the catalogs that the epoch is made of: whoever grants
    /// the privilege role more, or takes something away, changes it too. That is remembered
    /// by this process alone: what a database says of itself is no proof.
    fn ready(&self, key: &(String, String), version: &str, epoch: &str) -> Option<Arc<Compiled>> {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner);
        let ready = ready.get(key)?;
        (ready.version == version && ready.epoch == epoch).then(|| ready.compiled.clone())
    }

    fn is_installed(&self, what: &(String, String, String)) -> bool {
        self.installed.lock().unwrap_or_else(PoisonError::into_inner).contains(what)
    }

    fn remember(&self, installed: (String, String, String), opening: &Opening<'_>) {
        let key = (opening.target.name.clone(), opening.role.name.clone());
        let value = (opening.version.to_owned(), installed.1.clone());
        self.current.lock().unwrap_or_else(PoisonError::into_inner).insert(key, value);
        let mut all = self.installed.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|other| (&other.0, &other.1) != (&installed.0, &installed.1));
        all.insert(installed);
    }

    /// Drops a session's role, its connections first. Nothing to do where it is gone.
    pub(super) async fn drop_role(&self, store: &Store, lease: &Lease) -> Result<(), BrokerError> {
        let admin = reach::parse_reference(&lease.admin).ok_or_else(|| BrokerError::Secret {
            target: lease.target.clone(),
            why: "the lease names none".to_owned(),
        })?;
        let name = &lease.target;
        let connected = reach::connect_as(name, &admin, &self.folder, Some(&lease.database)).await;
        let mut connection = match connected {
            // The database may be gone; then the role holds nothing in it.
            Err(BrokerError::Login { .. }) => {
                reach::connect_as(name, &admin, &self.folder, None).await?
            }
            connected => connected?,
        };
        let administrator = role::Administrator { target: name, url: &admin, folder: &self.folder };
        let dropped =
            role::drop(&mut connection, &administrator, &lease.name, lease.owner.as_deref()).await;
        let _ = connection.close().await;
        dropped?;
        store.lease_dropped(lease, Timestamp::now()).await?;
        tracing::info!(
            session = lease.session,
            target = lease.target,
            name = lease.name,
            "database role dropped"
        );
        Ok(())
    }
}

async fn compile(
    opening: &Opening<'_>,
    document: String,
) -> Result<(Compiled, String), BrokerError> {
    let target = opening.target.name.clone();
    let role = opening.role.clone();
    let work = move || {
        let catalog = Catalog::from_json(&document)
            .map_err(|error| BrokerError::Catalog { target: target.clone(), error })?;
        policy::bound(&role, &catalog)
            .map_err(|error| BrokerError::Unbound { target: target.clone(), error })?;
        let compiled = policy::compile(&role, &catalog, Enforcement::Ephemeral)
            .map_err(|error| BrokerError::Compile { target, error })?;
        Ok((compiled, catalog.fingerprint()))
    };
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(_) => Err(BrokerError::Refused {
            target: opening.target.name.clone(),
            code: "XX000".to_owned(),
            message: "its catalog could not be compiled against".to_owned(),
        }),
    }
}
