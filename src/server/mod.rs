//! The control plane: grants, approvals, policy, the credential broker, the
//! archive of session logs.
//!
//! Owns the HTTP API that [`crate::api`] describes, the store behind it, and the
//! database roles of sessions. It is stateless over its store. It refuses to
//! judge statements: that is the proxy's work, under the policy document that
//! the server signs into the session's grant.

mod access;
mod app;
mod archive;
mod broker;
pub mod config;
mod issuers;
mod policy_folder;
mod problem;
mod routes;
mod sessions;
mod signing_key;
mod store;
mod survey;
#[cfg(test)]
mod testing;
mod web;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use axum_server::{Handle, tls_rustls::RustlsConfig};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use tokio_util::sync::CancellationToken;

use self::{
    app::{App, Changes, Turns},
    archive::Archive,
    broker::Broker,
    config::{Config, Tls},
    issuers::Issuers,
    policy_folder::PolicyFolder,
    store::Store,
    web::Site,
};
pub use self::{
    policy_folder::PolicyFolderError,
    signing_key::KeyError,
    store::StoreError,
    survey::{SurveyError, Surveyor},
};

/// How long requests in flight may take once the server is told to stop.
const LAST_REQUESTS: Duration = Duration::from_secs(10);
/// The longest wait for a new connection's first request.
const FIRST_REQUEST: Duration = Duration::from_secs(30);
/// The longest wait for a connection's next request. Clients let go of theirs before.
const NEXT_REQUEST: Duration = Duration::from_secs(120);
/// How often the policy folder is looked at.
const POLICY_INTERVAL: Duration = Duration::from_secs(2);

/// Why the control plane can't run.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address is taken or not this machine's.
    #[error("can't listen on {address}: {error}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What went wrong.
        error: io::Error,
    },
    /// A folder can't be made.
    #[error("can't make the folder {path}: {error}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What went wrong.
        error: io::Error,
    },
    /// The certificate or its key.
    #[error("the TLS certificate or key: {0}")]
    Tls(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The signing key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The policy.
    #[error(transparent)]
    Policy(#[from] PolicyFolderError),
    /// An issuer.
    #[error("{0}")]
    Issuer(String),
    /// No randomness from the operating system.
    #[error("the operating system gives no random bytes")]
    Randomness,
    /// Serving failed.
    #[error("the server stopped: {0}")]
    Serve(io::Error),
}

/// A control plane that listens, and answers once [`Server::run`] is called.
#[derive(Debug)]
pub struct Server {
    app: Arc<App>,
    listener: TcpListener,
    address: SocketAddr,
    tls: Option<RustlsConfig>,
}

impl Server {
    /// Opens the store, the key, the policy and the listening socket.
    pub async fn bind(config: Config) -> Result<Self, ServeError> {
        let policy = PolicyFolder::open(&config.policy)?;
        warn_of_strangers(&config, &policy);
        let tls = config.tls.as_ref().map(server_tls).transpose()?;
        let issuers =
            Issuers::new(&config).map_err(|error| ServeError::Issuer(error.to_string()))?;
        let seed = app::random().map_err(|_| ServeError::Randomness)?;
        let key = signing_key::load(&config.signing_key, || seed)?;
        make_folder(config.store.parent().unwrap_or(&config.store))?;
        make_folder(&config.archive)?;
        let store = Store::open(&config.store).await?;

        let listen_error = |error| ServeError::Listen { address: config.listen, error };
        let listener = TcpListener::bind(config.listen).map_err(listen_error)?;
        listener.set_nonblocking(true).map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let public_url = match &config.public_url {
            Some(url) => url.as_str().trim_end_matches('/').to_owned(),
            None => format!("{scheme}://{address}"),
        };
        if tls.is_none() && !address.ip().is_loopback() {
            tracing::warn!(%address, "listening without TLS; put a TLS proxy in front");
        }
        let app = App {
            site: Site::new(&public_url),
            public_url,
            store,
            keys: vec![key.verifying_key()],
            broker: Broker::new(config.policy.clone(), &key.verifying_key().id()),
            archive: Archive::new(&config.archive),
            uploads: Turns::default(),
            key,
            policy,
            issuers,
            changes: Changes::new(),
            stopping: CancellationToken::new(),
            config,
        };
        Ok(Self { app: Arc::new(app), listener, address, tls })
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The URL that clients use.
    pub fn public_url(&self) -> &str {
        &self.app.public_url
    }

    /// Serves until `shutdown` resolves, then lets requests in flight finish.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let Self { app, listener, address, tls } = self;
        tracing::info!(%address, public_url = app.public_url, key = app.key.verifying_key().id(), "serving");
        let background = [
            tokio::spawn(watch_policy(app.clone())),
            tokio::spawn(sessions::watch_expiry(app.clone())),
            tokio::spawn(sessions::watch_roles(app.clone())),
        ];
        let handle = Handle::new();
        let service = routes::router(app.clone()).into_make_service();
        let serving = async {
            match tls {
                Some(tls) => {
                    let server = axum_server::from_tcp_rustls(listener, tls)?;
                    bounded(server, FIRST_REQUEST, NEXT_REQUEST)
                        .handle(handle.clone())
                        .serve(service)
                        .await
                }
                None => {
                    let server = axum_server::from_tcp(listener)?;
                    bounded(server, FIRST_REQUEST, NEXT_REQUEST)
                        .handle(handle.clone())
                        .serve(service)
                        .await
                }
            }
        };
        let stop = async {
            shutdown.await;
            tracing::info!("stopping");
            app.stopping.cancel();
            handle.graceful_shutdown(Some(LAST_REQUESTS));
            std::future::pending::<()>().await;
        };
        let served = tokio::select! {
            served = serving => served,
            () = stop => Ok(()),
        };
        app.stopping.cancel();
        for task in background {
            // A task that panicked has said so; nothing is left to do for it.
            let _ = task.await;
        }
        app.store.close().await;
        served.map_err(ServeError::Serve)
    }
}

/// Lets nobody keep a connection without asking for something. HTTP/2, which would have
/// bounds of its own, isn't spoken.
fn bounded<A>(
    server: axum_server::Server<SocketAddr, A>,
    first: Duration,
    next: Duration,
) -> axum_server::Server<SocketAddr, A> {
    let mut server = server.first_request_timeout(first).http1_only();
    server.http_builder().http1().header_read_timeout(next);
    server
}

/// Runs the control plane until `shutdown` resolves.
pub async fn serve(config: Config, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
    Server::bind(config).await?.run(shutdown).await
}

/// Reads everything that `config` points to as [`Server::bind`] does, and leaves it as it is.
pub fn check(config: &Config) -> Result<(), ServeError> {
    let policy = PolicyFolder::open(&config.policy)?;
    warn_of_strangers(config, &policy);
    config.tls.as_ref().map(server_tls).transpose().map(drop)
}

/// An access rule for an issuer that the configuration doesn't have lets nobody in:
/// safe, but hardly meant.
fn warn_of_strangers(config: &Config, policy: &PolicyFolder) {
    for access in &policy.current().access {
        if let Some(issuer) = &access.who.issuer
            && !config.issuers.iter().any(|known| known.name == *issuer)
        {
            tracing::warn!(issuer, rule = %access.source, "no [[issuer]] has this name");
        }
    }
}

/// Looks at the policy folder every two seconds.
async fn watch_policy(app: Arc<App>) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(POLICY_INTERVAL) => {}
            () = app.stopping.cancelled() => return,
        }
        match app.policy.refresh() {
            Ok(true) => {
                tracing::info!("another policy is in force");
                warn_of_strangers(&app.config, &app.policy);
                app.changes.announce();
            }
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the policy stays as it was"),
        }
    }
}

fn make_folder(path: &std::path::Path) -> Result<(), ServeError> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| ServeError::Folder { path: path.to_owned(), error })
}

fn server_tls(tls: &Tls) -> Result<RustlsConfig, ServeError> {
    let failed = |path: &PathBuf| {
        let path = path.display().to_string();
        move |error: rustls_pki_types::pem::Error| ServeError::Tls(format!("{path}: {error}"))
    };
    let chain = CertificateDer::pem_file_iter(&tls.cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(failed(&tls.cert))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key).map_err(failed(&tls.key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| ServeError::Tls(error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(config)))
}

#[cfg(test)]
mod tests {
    use super::{testing::TestServer, *};

    #[tokio::test]
    async fn it_serves_tls_where_the_configuration_says_so() {
        let other = TestServer::start().await;
        let folder = tempfile::tempdir().unwrap();
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let certified = rcgen::generate_simple_self_signed(names).unwrap();
        std::fs::write(folder.path().join("cert.pem"), certified.cert.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), certified.signing_key.serialize_pem())
            .unwrap();
        let tls = Tls { cert: folder.path().join("cert.pem"), key: folder.path().join("key.pem") };
        let config = Config {
            store: folder.path().join("pgate.db"),
            signing_key: folder.path().join("signing.key"),
            tls: Some(tls),
            ..other.app.config.clone()
        };
        let server = Server::bind(config).await.unwrap();
        let url = format!("{}/healthz", server.public_url());
        assert!(url.starts_with("https://"));
        let stop = CancellationToken::new();
        let running = tokio::spawn(server.run(stop.clone().cancelled_owned()));
        let root = reqwest::Certificate::from_pem(certified.cert.pem().as_bytes()).unwrap();
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([root]).build().unwrap();
        assert_eq!(client.get(&url).send().await.unwrap().status(), 200);
        let stranger = reqwest::Client::builder().no_proxy().build().unwrap();
        assert!(stranger.get(&url).send().await.is_err(), "the certificate is checked");
        stop.cancel();
        running.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn a_connection_that_asks_for_nothing_is_ended_before_and_after_its_first_request() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let soon = Duration::from_millis(300);
        let server = bounded(axum_server::from_tcp(listener).unwrap(), soon, soon);
        let router = axum::Router::new().route("/", axum::routing::get(async || "here"));
        tokio::spawn(server.serve(router.into_make_service()));
        let whole = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        for sent in ["", "GET / HT", whole, &format!("{whole}GET / HT")] {
            let mut client = tokio::net::TcpStream::connect(address).await.unwrap();
            client.write_all(sent.as_bytes()).await.unwrap();
            let mut answer = Vec::new();
            let ended = client.read_to_end(&mut answer);
            let ended = tokio::time::timeout(Duration::from_secs(10), ended).await;
            assert!(ended.is_ok(), "{sent:?} is still connected");
            assert_eq!(sent.starts_with(whole), answer.ends_with(b"here"), "{sent:?}");
        }
    }

    #[tokio::test]
    async fn a_taken_address_is_a_clear_error() {
        let other = TestServer::start().await;
        let listen = other.url("").trim_start_matches("http://").parse().unwrap();
        let config = Config { listen, ..other.app.config.clone() };
        let error = Server::bind(config).await.unwrap_err();
        assert!(error.to_string().starts_with(&format!("can't listen on {listen}")), "{error}");
    }
}
