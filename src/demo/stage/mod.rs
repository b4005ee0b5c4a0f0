//! The whole product on this machine, for as long as somebody holds the
//! [`Stage`]: a throwaway cluster with the shop, a development issuer, and
//! `pgate serve` over the sample policy, each with files in one private folder.
//!
//! People get a home folder there each, so nothing of the real user's is read
//! or written, and no keyring is touched.

use std::{
    env, fs, io,
    net::SocketAddr,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use secrecy::ExposeSecret as _;
use serde::Deserialize;
use tempfile::TempDir;

use super::{
    cluster::{self, Cluster, ClusterError},
    issuer::{Issuer, IssuerError, Options as IssuerOptions},
    shop,
};

const KEEPER: &str = include_str!("keep.sh");
/// What the control plane reads the administrator's URL from.
const ADMIN_VARIABLE: &str = "PGATE_DEMO_ADMIN_URL";
const DATABASE: &str = "shop";
/// How long the control plane may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long it may take to stop.
const LAST_PATIENCE: Duration = Duration::from_secs(15);

/// Why there is no stage.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// No database.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// No issuer.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The control plane's own words.
    #[error("`pgate serve` did not start: {0}")]
    Server(String),
    /// A file or process couldn't be made.
    #[error("the demo's private folder can't be used: {0}")]
    Io(#[from] io::Error),
}

/// What a stage should be like, beyond the ordinary.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The issuer.
    pub issuer: IssuerOptions,
    /// Policy files (name and content) besides, or instead of, the sample ones.
    pub policy: Vec<(String, String)>,
    /// Further lines of the control plane's `pgate.toml`, at its end.
    pub server: String,
    /// The database cluster.
    pub cluster: cluster::Options,
}

/// A running stage. Dropping it ends and removes all of it.
pub struct Stage {
    // In the order in which they go.
    server: Keeper,
    issuer: Issuer,
    cluster: Cluster,
    url: String,
    executable: PathBuf,
    folder: TempDir,
}

impl Stage {
    /// Starts everything; takes a few seconds. `executable` is the `pgate` to run.
    pub async fn start(executable: &Path, options: Options) -> Result<Self, StageError> {
        let cluster = Cluster::start(options.cluster.clone()).await?;
        let issuer = Issuer::start(options.issuer.clone()).await?;
        shop::create(&cluster, DATABASE).await?;

        let folder = super::private_folder("pgate-demo-")?;
        let server = folder.path().join("server");
        let policy = server.join("policy");
        fs::create_dir_all(&policy)?;
        fs::create_dir(folder.path().join("tmp"))?;
        fs::write(policy.join("shop.toml"), shop::POLICY)?;
        let target = shop::target_policy(cluster.port(), DATABASE, ADMIN_VARIABLE);
        fs::write(policy.join("target.toml"), target)?;
        for (name, content) in &options.policy {
            fs::write(policy.join(name), content)?;
        }
        let settings = server_settings(issuer.url(), &options.issuer.client_id);
        fs::write(server.join("pgate.toml"), settings + &options.server)?;

        let executable = executable.to_owned();
        let server = Keeper::start(&executable, folder.path(), &cluster)?;
        let address = server.address().await?;
        let url = format!("http://{address}");
        Ok(Self { server, issuer, cluster, url, executable, folder })
    }

    /// The control plane's URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The issuer.
    pub fn issuer(&self) -> &Issuer {
        &self.issuer
    }

    /// The cluster, with the database `shop`.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The folder that holds everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The control plane's files: `pgate.toml`, `policy/`, `sessions/`.
    pub fn server_folder(&self) -> PathBuf {
        self.folder.path().join("server")
    }

    /// What the control plane has logged so far.
    pub fn server_log(&self) -> String {
        self.server.log()
    }

    /// The `pgate` that runs here.
    pub fn executable(&self) -> &Path {
        &self.executable
    }

    /// The home folder of one person (a plain name), made at its first use.
    pub fn home(&self, person: &str) -> io::Result<PathBuf> {
        let home = self.folder.path().join(person);
        fs::create_dir_all(&home)?;
        fs::set_permissions(&home, fs::Permissions::from_mode(0o700))?;
        Ok(home)
    }

    /// The environment of one person's shell: nothing of this process's but the
    /// search path and the terminal.
    pub fn environment(&self, person: &str) -> io::Result<Vec<(&'static str, String)>> {
        let home = self.home(person)?;
        let text = |path: &Path| path.to_string_lossy().into_owned();
        let mut all = vec![
            ("HOME", text(&home)),
            ("XDG_CONFIG_HOME", text(&home.join(".config"))),
            ("XDG_DATA_HOME", text(&home.join(".local/share"))),
            ("XDG_STATE_HOME", text(&home.join(".local/state"))),
            ("XDG_CACHE_HOME", text(&home.join(".cache"))),
            ("TMPDIR", text(&self.folder.path().join("tmp"))),
            ("PATH", self.search_path()),
            ("PGATE_SERVER", self.url.clone()),
            ("PGATE_KEYRING", "off".to_owned()),
        ];
        for name in ["TERM", "LANG", "LC_ALL", "TZ", "NO_COLOR"] {
            all.extend(env::var(name).ok().map(|value| (name, value)));
        }
        Ok(all)
    }

    /// The search path with `pgate` first and psql, where only the server's
    /// folder has it, last.
    fn search_path(&self) -> String {
        let own = self.executable.parent().map(Path::to_owned);
        let inherited = env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into());
        let folders = own.into_iter().chain(env::split_paths(&inherited)).chain([self
            .cluster
            .binaries()
            .folder
            .clone()]);
        let joined = env::join_paths(folders).unwrap_or(inherited);
        joined.to_string_lossy().into_owned()
    }

    /// `pgate` as this person runs it.
    pub fn pgate(&self, person: &str) -> io::Result<Command> {
        let mut command = Command::new(&self.executable);
        command.env_clear().envs(self.environment(person)?).current_dir(self.home(person)?);
        Ok(command)
    }

    /// A small script that turns a shell into this person's, for `. FILE`.
    pub fn shell_script(&self, person: &str) -> io::Result<PathBuf> {
        let file = self.folder.path().join(format!("as-{person}"));
        let terminal = ["TERM", "LANG", "LC_ALL", "TZ", "NO_COLOR", "TMPDIR", "XDG_CACHE_HOME"];
        let lines = self
            .environment(person)?
            .into_iter()
            .filter(|(name, _)| !terminal.contains(name))
            // Only macOS keeps settings by HOME alone; elsewhere a shell keeps its own.
            .filter(|(name, _)| *name != "HOME" || cfg!(target_os = "macos"))
            .map(|(name, value)| format!("export {name}='{}'\n", value.replace('\'', r"'\''")))
            .collect::<String>();
        fs::write(&file, lines)?;
        Ok(file)
    }
}

/// pgate.toml of the demo's control plane.
fn server_settings(issuer: &str, client_id: &str) -> String {
    format!(
        "listen      = \"127.0.0.1:0\"\n\
         store       = \"sqlite:pgate.db\"\n\
         archive     = \"file:sessions\"\n\
         signing_key = \"file:signing.key\"\n\
         policy      = \"policy/\"\n\
         \n\
         [[issuer]]\n\
         name = \"corp\"\n\
         url = \"{issuer}\"\n\
         client_id = \"{client_id}\"\n\
         groups_claim = \"groups\"\n\
         \n\
         [[issuer]]\n\
         name = \"ci\"\n\
         url = \"{issuer}\"\n\
         audience = \"pgate-ci\"\n"
    )
}

/// `pgate serve` under its keeper.
struct Keeper {
    keeper: Child,
    log: PathBuf,
}

/// The one line of the control plane's log that is of interest here.
#[derive(Deserialize)]
struct Serving {
    message: String,
    address: Option<SocketAddr>,
}

impl Keeper {
    fn start(executable: &Path, folder: &Path, cluster: &Cluster) -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command
            .args(["-c", KEEPER, "keep"])
            .arg(folder)
            .arg(executable)
            .args(["serve", "--config", "server/pgate.toml"])
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap_or_else(|| "/usr/bin:/bin".into()))
            .env("HOME", folder.join("server"))
            .env("TZ", "UTC")
            .env("PGATE_LOG", "pgate=info,warn")
            .env(ADMIN_VARIABLE, cluster.admin_url_of(DATABASE).expose_secret())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        Ok(Self { keeper: command.spawn()?, log: folder.join("server.log") })
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until the control plane listens.
    async fn address(&self) -> Result<SocketAddr, StageError> {
        let start = Instant::now();
        loop {
            let log = self.log();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Serving>(line).ok());
            let serving = lines.filter(|line| line.message == "serving");
            if let Some(address) = serving.filter_map(|line| line.address).next_back() {
                return Ok(address);
            }
            if log.contains("error: ") || start.elapsed() > PATIENCE {
                return Err(StageError::Server(log.trim().to_owned()));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        super::wait_for(&mut self.keeper, LAST_PATIENCE);
    }
}
