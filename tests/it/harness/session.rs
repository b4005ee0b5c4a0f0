//! A session that the proxy carries, without a control plane: its log stays in a folder.

use std::{error::Error, sync::Arc};

use jiff::Timestamp;
use pgate::{
    api::DatabaseAccess,
    grant::{SessionId, SignedGrant, SigningKey},
    journal::Start,
    policy::{Enforcement, Role},
    proxy::{
        Admission, Drift, Engine, EngineConfig, OwnConnection, Running, UpstreamConfig,
        spool::{Destination, Spool},
    },
};

/// A running session and its log.
pub(crate) struct Carried {
    pub(crate) running: Running,
    pub(crate) spool: Arc<Spool>,
    _folder: tempfile::TempDir,
}

impl Carried {
    /// A session of this role on this database.
    pub(crate) async fn start(
        access: &DatabaseAccess,
        role: Arc<Role>,
        enforcement: Enforcement,
        expires_at: Timestamp,
    ) -> Result<Self, Box<dyn Error>> {
        let session = SessionId::from_random([7; 10]);
        let folder = tempfile::tempdir()?;
        let key = SigningKey::from_seed(&[7; 32]);
        let start = Start {
            version: 1,
            session: session.clone(),
            grant: SignedGrant::from("unsigned".to_owned()),
            key: key.verifying_key().to_jwk(),
            pgate: "test".into(),
            command: None,
        };
        let destination = Destination {
            server: url::Url::parse("http://127.0.0.1:9")?,
            upload_token: "unused".into(),
        };
        let spool = Spool::create(folder.path(), &destination, start, key, Timestamp::now())?;
        let spool = Arc::new(spool);
        let upstream = UpstreamConfig::new(access)?;
        let own = OwnConnection::new(upstream.clone(), &session);
        let masks = role.withholds_values();
        let drift = Drift::start(role.clone(), enforcement, own, None).await?;
        let admission = Arc::new(Admission::new(role, expires_at, drift, spool.clone()));
        let running = Engine::start(EngineConfig {
            session,
            upstream,
            admission,
            expires_at,
            masks,
            port: None,
            socket_dir: None,
        })
        .await?;
        Ok(Self { running, spool, _folder: folder })
    }

    /// The lines of the session log so far.
    pub(crate) fn log(&self) -> Vec<serde_json::Value> {
        // Writes what would be written within a moment. A closed log has all of it.
        let _ = self.spool.checkpoint(Timestamp::now());
        let log = std::fs::read_dir(self.spool.folder())
            .expect("the spool")
            .filter_map(|entry| std::fs::read_to_string(entry.ok()?.path()).ok())
            .find(|text| text.starts_with(r#"{"seq":0,"#))
            .expect("a log");
        log.lines().map(|line| serde_json::from_str(line).expect("a line")).collect()
    }
}
