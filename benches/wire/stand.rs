//! The test stand: a throwaway PostgreSQL with the benchmark's tables, a control
//! plane with its policy, and the ways to the database that are compared. All of it
//! goes with the [`Stand`].

use std::{
    ffi::OsStr,
    fs,
    io::BufReader,
    net::TcpListener,
    os::unix::{
        fs::{PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, bail};
use pgate::demo::{
    cluster,
    stage::{Options, Stage},
};
use rustix::process::{Resource, Rlimit, geteuid, getrlimit, setrlimit};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tokio::runtime::Runtime;

const KEEPER: &str = include_str!("keep.sh");
const TABLES: &str = include_str!("tables.sql");
const POLICY: &str = include_str!("policy.toml");
const DATABASE: &str = "shop";
const TARGET: &str = "prod-db";
const PERSON: &str = "ana";
/// The role that the ways without pgate log in as; its password is in `tables.sql`.
const USER: &str = "bench";
const PASSWORD: &str = "only for this machine";
/// Idle connections that are held at a time, and room for the others.
const CONNECTIONS: u32 = 1200;

/// A way to the database.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) name: &'static str,
    /// An address, or the folder of a Unix socket.
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) user: String,
    pub(crate) password: String,
    pub(crate) database: String,
    /// The process in between, where there is one.
    pub(crate) process: Option<u32>,
}

/// Everything that the measurements need.
pub(crate) struct Stand {
    // In the order in which they go.
    held: Vec<Kept>,
    forwarder: Option<Child>,
    stage: Stage,
    runtime: Runtime,
}

impl Stand {
    /// Starts PostgreSQL, and this pgate as control plane; takes about ten seconds.
    pub(crate) fn start(executable: &Path) -> anyhow::Result<Self> {
        allow_many_files()?;
        let runtime = Runtime::new()?;
        let settings = [
            ("max_connections", CONNECTIONS.to_string()),
            ("shared_buffers", "512MB".to_owned()),
            // What runs by itself would run in the middle of one way's turn.
            ("autovacuum", "off".to_owned()),
            ("checkpoint_timeout", "1h".to_owned()),
            ("max_wal_size", "8GB".to_owned()),
        ];
        let settings = settings.map(|(name, value)| (name.to_owned(), value));
        let options = Options {
            policy: vec![("bench.toml".to_owned(), POLICY.to_owned())],
            cluster: cluster::Options { settings: settings.into(), ..Default::default() },
            ..Options::default()
        };
        let stage = runtime.block_on(async {
            let stage = Stage::start(executable, options).await?;
            stage.cluster().psql(DATABASE, TABLES).await?;
            anyhow::Ok(stage)
        })?;
        Ok(Self { held: Vec::new(), forwarder: None, stage, runtime })
    }

    /// Straight to PostgreSQL.
    pub(crate) fn direct(&self) -> Way {
        self.way("direct", self.stage.cluster().port(), None)
    }

    /// Through a forwarder that knows nothing of the protocol.
    pub(crate) fn forwarder(&mut self) -> anyhow::Result<Way> {
        let upstream = format!("127.0.0.1:{}", self.stage.cluster().port());
        let mut child = Command::new(std::env::current_exe()?)
            .args(["forward", &upstream])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let process = child.id();
        let output = child.stdout.take().expect("standard output was asked to be a pipe");
        self.forwarder = Some(child);
        let port = line_of(&mut BufReader::new(output))?.parse()?;
        Ok(self.way("forwarder", port, Some(process)))
    }

    /// Through pgbouncer by TCP and by its Unix socket; none where it isn't installed
    /// and can't be.
    pub(crate) fn pgbouncer(&mut self) -> anyhow::Result<Option<(Way, Way)>> {
        let Some(program) = installed_pgbouncer() else { return Ok(None) };
        let folder = tempfile::Builder::new().prefix("pgate-bench-").tempdir_in("/tmp")?;
        let path = folder.path().to_owned();
        let text = path.display().to_string();
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let verifier =
            self.psql(&format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{USER}'"))?;
        let settings = format!(
            "[databases]\n\
             {DATABASE} = host=127.0.0.1 port={} dbname={DATABASE}\n\
             [pgbouncer]\n\
             listen_addr = 127.0.0.1\n\
             listen_port = {port}\n\
             unix_socket_dir = {text}\n\
             auth_type = scram-sha-256\n\
             auth_file = {text}/users\n\
             pool_mode = session\n\
             default_pool_size = 100\n\
             max_client_conn = {CONNECTIONS}\n\
             logfile = {text}/log\n",
            self.stage.cluster().port(),
        );
        fs::write(path.join("settings"), settings)?;
        fs::write(path.join("users"), format!("\"{USER}\" \"{}\"\n", verifier.trim()))?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", KEEPER, "keep"]).arg(&path).arg(program);
        command.arg("-q").arg(path.join("settings"));
        if geteuid().is_root() {
            // It refuses to run as root.
            let (user, group) = unprivileged().context("nobody to run pgbouncer as")?;
            for file in ["settings", "users", ""] {
                chown(path.join(file), Some(user), Some(group))?;
            }
            command.uid(user).gid(group);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o711))?;
        // The keeper removes it.
        let _ = folder.keep();
        let kept = Kept::start(command)?;
        let process = Some(kept.process);
        self.held.push(kept);
        let tcp = self.way("pgbouncer", port, process);
        let unix = Way { name: "pgbouncer, Unix socket", host: text, ..tcp.clone() };
        until_it_listens(port)?;
        Ok(Some((tcp, unix)))
    }

    /// Through a new session of pgate under this role, by TCP and by its Unix socket.
    pub(crate) fn pgate(&mut self, role: &str) -> anyhow::Result<(Way, Way)> {
        let nothing = tempfile::Builder::new().prefix("pgate-bench-").tempdir_in("/tmp")?.keep();
        let connect = self.connect(role, &["--output", "json"])?;
        let mut command = Command::new("/bin/sh");
        command.args(["-c", KEEPER, "keep"]).arg(&nothing).arg(connect.get_program());
        command.args(connect.get_args()).env_clear();
        command.envs(connect.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut kept = Kept::start(command)?;
        let ready = loop {
            let line = line_of(&mut kept.output)?;
            let event = serde_json::from_str::<Value>(&line).with_context(|| line.clone())?;
            match event["event"].as_str() {
                Some("ready") => break event,
                Some(_) => {}
                None => bail!("pgate connect: {line}"),
            }
        };
        let text = |name: &str| ready[name].as_str().unwrap_or_default().to_owned();
        let port = ready["port"].as_u64().and_then(|port| u16::try_from(port).ok());
        let tcp = Way {
            name: "pgate",
            host: text("host"),
            port: port.context("no port in the ready event")?,
            user: text("user"),
            password: text("password"),
            database: text("database"),
            process: Some(kept.process),
        };
        self.held.push(kept);
        let unix = Way { name: "pgate, Unix socket", host: text("socket"), ..tcp.clone() };
        Ok((tcp, unix))
    }

    /// Ends the session, or pgbouncer, that a way leads through.
    pub(crate) fn end(&mut self, way: &Way) {
        self.held.retain(|kept| Some(kept.process) != way.process);
    }

    /// `pgate connect` under this role, with these further arguments.
    pub(crate) fn connect(&self, role: &str, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = self.stage.pgate(PERSON)?;
        command.args(["connect", TARGET, "--role", role, "--reason", "benchmark"]).args(arguments);
        let token = self.stage.issuer().id_token(&format!("{PERSON}@example.com"))?;
        command.env("PGATE_TOKEN", token.expose_secret());
        Ok(command)
    }

    /// `pgate` as the person who has the sessions.
    pub(crate) fn own_pgate(&self, arguments: &[&str]) -> anyhow::Result<Command> {
        let mut command = self.stage.pgate(PERSON)?;
        let token = self.stage.issuer().id_token(&format!("{PERSON}@example.com"))?;
        command.args(arguments).env("PGATE_TOKEN", token.expose_secret());
        Ok(command)
    }

    /// Runs SQL as the superuser.
    pub(crate) fn psql(&self, sql: &str) -> anyhow::Result<String> {
        Ok(self.runtime.block_on(self.stage.cluster().psql(DATABASE, sql))?)
    }

    /// Runs something beside the measurements.
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(work);
    }

    /// PostgreSQL's own client for measurements.
    pub(crate) fn pgbench(&self) -> PathBuf {
        let beside = self.stage.cluster().binaries().folder.join("pgbench");
        if beside.is_file() { beside } else { PathBuf::from("pgbench") }
    }

    /// A folder that goes with everything else.
    pub(crate) fn folder(&self) -> &Path {
        self.stage.folder()
    }

    fn way(&self, name: &'static str, port: u16, process: Option<u32>) -> Way {
        Way {
            name,
            host: "127.0.0.1".to_owned(),
            port,
            user: USER.to_owned(),
            password: PASSWORD.to_owned(),
            database: DATABASE.to_owned(),
            process,
        }
    }
}

impl Drop for Stand {
    fn drop(&mut self) {
        if let Some(mut forwarder) = self.forwarder.take() {
            drop(forwarder.stdin.take());
            let _ = forwarder.wait();
        }
    }
}

/// A process under its keeper. Dropping it ends it.
struct Kept {
    keeper: Child,
    lifeline: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    process: u32,
}

impl Kept {
    fn start(mut command: Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // Out of reach of the terminal's Ctrl-C: it goes when the benchmark lets it go.
        command.process_group(0);
        let mut keeper = command.spawn()?;
        let lifeline = keeper.stdin.take();
        let output = keeper.stdout.take().expect("standard output was asked to be a pipe");
        let mut output = BufReader::new(output);
        let process = line_of(&mut output)?.parse()?;
        Ok(Self { keeper, lifeline, output, process })
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        let _ = self.keeper.wait();
    }
}

fn line_of(from: &mut impl std::io::BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    if line.is_empty() {
        bail!("a process ended before it was ready");
    }
    Ok(line.trim_end().to_owned())
}

fn until_it_listens(port: u16) -> anyhow::Result<()> {
    for _ in 0..200 {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Ok(());
        }
        std::thread::sleep(std::time::Duration::from_millis(25));
    }
    bail!("pgbouncer doesn't listen")
}

/// pgbouncer's program, installed where that can be done without asking anybody.
fn installed_pgbouncer() -> Option<PathBuf> {
    let find = || {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path)
            .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/usr/local/sbin")])
            .map(|folder| folder.join("pgbouncer"))
            .find(|program| program.is_file())
    };
    if let Some(found) = find() {
        return Some(found);
    }
    if !geteuid().is_root() {
        eprintln!("pgbouncer is skipped: install it (sudo apt-get install pgbouncer)");
        return None;
    }
    eprintln!("installing pgbouncer with apt-get");
    let run = |program: &str, arguments: &[&str]| {
        let mut command = Command::new(program);
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    let install = ["install", "-qy", "--no-install-recommends", "pgbouncer"];
    let done =
        run("apt-get", &install) || (run("apt-get", &["update"]) && run("apt-get", &install));
    if !done {
        eprintln!("pgbouncer is skipped: it can't be installed");
        return None;
    }
    // The package starts a service of its own, which nobody here asked for.
    if Path::new("/run/systemd/system").exists() {
        run("systemctl", &["disable", "--now", "pgbouncer"]);
    }
    find()
}

/// Somebody who isn't root.
fn unprivileged() -> Option<(u32, u32)> {
    let ask = |flag: &str, name: &str| {
        let output = Command::new("id").args([flag, name]).stderr(Stdio::null()).output().ok()?;
        String::from_utf8_lossy(&output.stdout).trim().parse::<u32>().ok().filter(|id| *id != 0)
    };
    ["postgres", "nobody"].into_iter().find_map(|name| Some((ask("-u", name)?, ask("-g", name)?)))
}

/// As many open files as this user may have: idle connections take two each.
fn allow_many_files() -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    Ok(())
}

/// Whether a program can be run at all.
pub(crate) fn runs(program: &OsStr) -> bool {
    let mut command = Command::new(program);
    command.arg("--version").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
