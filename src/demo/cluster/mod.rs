//! A throwaway PostgreSQL cluster: made in a private folder, run for as long as
//! somebody holds the [`Cluster`], and gone without a trace after that.
//!
//! The server is watched by a small shell script at the other end of a pipe, so
//! it also goes when this process is killed. It listens on loopback and on a Unix
//! socket in its own folder, takes SCRAM passwords only, and never syncs: it is
//! fast, and loses its data by design. Not a way to run a database that matters.

mod binaries;

use std::{
    env, fs,
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{Ipv4Addr, TcpListener},
    os::unix::{
        fs::{OpenOptionsExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{
    Connection as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;

pub use binaries::{BIN_VARIABLE, Binaries, Wanted, install_advice};

const SUPERVISOR: &str = include_str!("supervise.sh");
const PREFIX: &str = "pgate-cluster-";
const SUPERUSER: &str = "postgres";
/// How often a start is tried again when another process took the port first.
const ATTEMPTS: u32 = 4;
/// How long a stopped server may take to go before its folder is removed anyway.
const PATIENCE: Duration = Duration::from_secs(15);

/// Why there is no cluster.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// `PGATE_PG_BIN` names a folder without the programs.
    #[error(
        "{BIN_VARIABLE} is {0}, which does not hold PostgreSQL's initdb, pg_ctl and postgres; \
         set it to the folder that does, or unset it"
    )]
    WrongFolder(PathBuf),
    /// Neither installed nor to be had.
    #[error(
        "PostgreSQL's server programs (14 to 18) are not on this machine, and fetching them \
         failed ({reason}); {advice}, or set {BIN_VARIABLE} to their folder"
    )]
    NoPostgres {
        /// Why they couldn't be fetched.
        reason: String,
        /// What to install.
        advice: String,
    },
    /// No psql.
    #[error("psql is not on this machine; {advice}")]
    NoPsql {
        /// What to install.
        advice: String,
    },
    /// Under root there is nobody to run the server as.
    #[error(
        "PostgreSQL does not run as root, and there is neither a user \"postgres\" nor \"nobody\" \
         to run it as; create one, or run as an ordinary user"
    )]
    NobodyToRunAs,
    /// The server's own words.
    #[error("the throwaway PostgreSQL server can't be started from {folder}: {reason}")]
    Start {
        /// Where its programs are.
        folder: PathBuf,
        /// The end of its log.
        reason: String,
    },
    /// psql said no.
    #[error("psql failed on database {database}: {reason}")]
    Psql {
        /// The database.
        database: String,
        /// What it printed.
        reason: String,
    },
    /// A connection or statement failed.
    #[error("the throwaway PostgreSQL server refused: {0}")]
    Sql(#[from] sqlx::Error),
    /// A file or process couldn't be made.
    #[error("a throwaway PostgreSQL cluster can't be made: {0}")]
    Io(#[from] io::Error),
}

/// What a cluster should be like, beyond the ordinary.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A certificate to serve TLS with; none means no TLS.
    pub tls: Option<ServerTls>,
    /// Further settings of postgresql.conf, which win over this module's own.
    pub settings: Vec<(String, String)>,
    /// The cluster to follow as a hot standby; that one's settings must allow it
    /// (`wal_level`, `max_wal_senders`).
    pub standby_of: Option<Primary>,
}

/// What a hot standby needs to know of the cluster that it follows.
#[derive(Debug, Clone)]
pub struct Primary {
    port: u16,
    password: SecretString,
}

/// A server certificate and its key.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// The certificate chain, PEM.
    pub certificate: String,
    /// The private key, PEM.
    pub key: SecretString,
}

/// A running throwaway PostgreSQL server. Dropping it stops the server and
/// removes its folder.
pub struct Cluster {
    binaries: Binaries,
    folder: TempDir,
    supervisor: Child,
    port: u16,
    password: SecretString,
}

impl Cluster {
    /// Makes and starts a cluster; takes one to two seconds. Returns when it
    /// accepts connections.
    pub async fn start(options: Options) -> Result<Self, ClusterError> {
        let binaries = Binaries::find_or_fetch().await?;
        let start = move || start_blocking(binaries, &options);
        tokio::task::spawn_blocking(start).await.map_err(io::Error::other)?
    }

    /// The superuser's URL for the database `postgres`, by TCP, password included.
    pub fn admin_url(&self) -> SecretString {
        self.admin_url_of("postgres")
    }

    /// The superuser's URL for a database whose name needs no escaping in a URL.
    pub fn admin_url_of(&self, database: &str) -> SecretString {
        let password = self.password.expose_secret();
        let port = self.port;
        let url = format!("postgres://{SUPERUSER}:{password}@127.0.0.1:{port}/{database}");
        SecretString::from(url)
    }

    /// For a cluster that is to follow this one.
    pub fn as_primary(&self) -> Primary {
        Primary { port: self.port, password: self.password.clone() }
    }

    /// The TCP port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the Unix socket, for its owner (and root) only.
    pub fn socket_folder(&self) -> &Path {
        self.folder.path()
    }

    /// The server's programs.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// What the server has written to its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// A connection as the superuser.
    pub async fn connect(&self, database: &str) -> Result<PgConnection, ClusterError> {
        let options = PgConnectOptions::new_without_pgpass()
            .host("127.0.0.1")
            .port(self.port)
            .username(SUPERUSER)
            .password(self.password.expose_secret())
            .database(database)
            .ssl_mode(PgSslMode::Disable);
        Ok(PgConnection::connect_with(&options).await?)
    }

    /// Runs one or more SQL statements (no parameters) as the superuser.
    pub async fn execute(&self, database: &str, sql: &str) -> Result<(), ClusterError> {
        let mut connection = self.connect(database).await?;
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&mut connection).await?;
        connection.close().await?;
        Ok(())
    }

    /// Runs a psql script as the superuser and returns what psql prints:
    /// unaligned rows, without headers. The first error ends it.
    pub async fn psql(&self, database: &str, script: &str) -> Result<String, ClusterError> {
        let mut psql = tokio::process::Command::new(self.binaries.psql()?);
        psql.args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--file=-"])
            .args(["--set=ON_ERROR_STOP=1", "--no-password"])
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_default())
            .env("LC_ALL", "C")
            .env("PGHOST", self.socket_folder())
            .env("PGPORT", self.port.to_string())
            .env("PGUSER", SUPERUSER)
            .env("PGPASSWORD", self.password.expose_secret())
            .env("PGDATABASE", database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = psql.spawn()?;
        let mut stdin = child.stdin.take().expect("standard input was asked to be a pipe");
        let script = script.to_owned();
        let feed = tokio::spawn(async move { stdin.write_all(script.as_bytes()).await });
        let output = child.wait_with_output().await?;
        feed.abort();
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(ClusterError::Psql {
            database: database.to_owned(),
            reason: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        })
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        super::wait_for(&mut self.supervisor, PATIENCE);
    }
}

fn start_blocking(binaries: Binaries, options: &Options) -> Result<Cluster, ClusterError> {
    let mut attempt = 1;
    loop {
        let result = try_start(&binaries, options);
        match result {
            Err(ClusterError::Start { ref reason, .. })
                if attempt < ATTEMPTS && reason.contains("could not bind") =>
            {
                attempt += 1;
            }
            _ => return result,
        }
    }
}

fn try_start(binaries: &Binaries, options: &Options) -> Result<Cluster, ClusterError> {
    let runner = match privileges() {
        Privileges::Root => Some(unprivileged_user().ok_or(ClusterError::NobodyToRunAs)?),
        Privileges::Ordinary => None,
    };
    let folder = private_folder(runner)?;
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let password = match &options.standby_of {
        Some(primary) => primary.password.clone(),
        None => SecretString::from(random_hex()),
    };

    let write = |name: &str, content: &str| write_private(&folder.path().join(name), content);
    write("password", password.expose_secret())?;
    write("settings", &settings(folder.path(), port, options))?;
    if let Some(primary) = &options.standby_of {
        write("primary", &primary.port.to_string())?;
    }
    if let Some(tls) = &options.tls {
        write("server.crt", &tls.certificate)?;
        write("server.key", tls.key.expose_secret())?;
    }
    if let Some(runner) = runner {
        give_away(folder.path(), runner)?;
    }

    let mut command = Command::new("/bin/sh");
    command
        .args(["-c", SUPERVISOR, "supervise"])
        .arg(&binaries.folder)
        .arg(folder.path())
        .env_clear()
        .env("PATH", env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()))
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // Out of reach of the terminal's Ctrl-C: whoever holds the cluster decides.
        .process_group(0);
    if let Some(User { uid, gid }) = runner {
        command.uid(uid).gid(gid);
    }
    let mut supervisor = command.spawn()?;
    let stdout = supervisor.stdout.take().expect("standard output was asked to be a pipe");
    let mut output = BufReader::new(stdout);
    let mut first = String::new();
    output.read_line(&mut first)?;
    if first.trim() != "ready" {
        let mut rest = String::new();
        output.read_to_string(&mut rest)?;
        supervisor.wait()?;
        let reason = format!("{}\n{}", first.trim(), rest.trim());
        return Err(ClusterError::Start { folder: binaries.folder.clone(), reason });
    }
    Ok(Cluster { binaries: binaries.clone(), folder, supervisor, port, password })
}

/// postgresql.conf's additions.
fn settings(folder: &Path, port: u16, options: &Options) -> String {
    let socket_folder = folder.to_string_lossy();
    let port = port.to_string();
    let own = [
        ("listen_addresses", "127.0.0.1"),
        ("port", &port),
        ("unix_socket_directories", &socket_folder),
        ("fsync", "off"),
        ("synchronous_commit", "off"),
        ("full_page_writes", "off"),
        ("wal_level", "minimal"),
        ("max_wal_senders", "0"),
        ("shared_buffers", "64MB"),
        ("max_connections", "200"),
        ("timezone", "UTC"),
        ("log_timezone", "UTC"),
        ("lc_messages", "C"),
    ];
    let tls = [("ssl", "on"), ("ssl_cert_file", "server.crt"), ("ssl_key_file", "server.key")];
    let tls = options.tls.iter().flat_map(|_| tls).map(|(name, value)| {
        let file = name.ends_with("_file");
        (name, if file { format!("{socket_folder}/{value}") } else { value.to_owned() })
    });
    let own = own.map(|(name, value)| (name, value.to_owned()));
    let further = options.settings.iter().map(|(name, value)| (name.as_str(), value.clone()));
    own.into_iter()
        .chain(tls)
        .chain(further)
        .map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''")))
        .collect()
}

/// Who this process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Privileges {
    Root,
    Ordinary,
}

fn privileges() -> Privileges {
    if rustix::process::geteuid().is_root() { Privileges::Root } else { Privileges::Ordinary }
}

#[derive(Debug, Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

/// Whom the server runs as when this process is root.
fn unprivileged_user() -> Option<User> {
    let ask = |flag: &str, name: &str| {
        let output = Command::new("id").args([flag, name]).stderr(Stdio::null()).output().ok()?;
        String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().ok().filter(|id| *id != 0)
    };
    ["postgres", "nobody"]
        .into_iter()
        .find_map(|name| Some(User { uid: ask("-u", name)?, gid: ask("-g", name)? }))
}

/// A folder for the server's eyes only, somewhere that it can reach.
fn private_folder(runner: Option<User>) -> io::Result<TempDir> {
    let open = |folder: &Path| {
        fs::metadata(folder).is_ok_and(|entry| entry.permissions().mode() & 0o001 != 0)
    };
    if runner.is_none() || env::temp_dir().ancestors().all(open) {
        super::private_folder(PREFIX)
    } else {
        tempfile::Builder::new().prefix(PREFIX).tempdir_in("/tmp")
    }
}

/// A new file for its owner only.
fn write_private(path: &Path, content: &str) -> io::Result<()> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    options.open(path)?.write_all(content.as_bytes())
}

/// Hands a folder and the files in it to the user that the server runs as; the
/// folder last, so that nobody else has a hand in it before.
fn give_away(folder: &Path, User { uid, gid }: User) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        chown(entry?.path(), Some(uid), Some(gid))?;
    }
    chown(folder, Some(uid), Some(gid))
}

fn random_hex() -> String {
    rand::random::<[u8; 24]>().iter().map(|byte| format!("{byte:02x}")).collect()
}
