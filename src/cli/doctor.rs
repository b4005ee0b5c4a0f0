//! `pgate doctor`.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde::Serialize;

use super::{
    context::Context,
    credentials::with_store,
    failure::{Exit, Failure},
    output::{escaped, moment},
};
use crate::{
    api::{self, Client, ServerInfo, clock_difference},
    config::{Keyring, OutputFormat, Setting},
    proxy::spool::orphans,
};

/// Check everything that pgate needs, and show every setting with its source.
///
/// Each line is ok, warn or fail, and what is not ok says what to do. Exits with 1
/// where something failed.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate doctor
  pgate doctor --output json | jq '.checks[] | select(.status != \"ok\")'")]
pub(crate) struct Args {}

/// What a check found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warn,
    Fail,
}

#[derive(Debug, Serialize)]
struct Check {
    check: &'static str,
    status: Status,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

#[derive(Debug, Serialize)]
struct Line {
    setting: &'static str,
    value: Option<String>,
    source: String,
}

#[derive(Debug, Serialize)]
struct Report {
    version: &'static str,
    settings: Vec<Line>,
    checks: Vec<Check>,
}

pub(crate) async fn run(_args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let spinner = context.output.spinner("looking around");
    let mut checks = vec![settings_files(context)];
    let (server, info) = reach(context).await;
    checks.push(server);
    if let Some(info) = info {
        checks.push(version(&info));
        checks.push(clock(&info));
        checks.push(login(context).await);
    } else {
        checks.push(stored_login(context).await);
    }
    checks.push(keyring(context).await);
    checks.push(spool(&context.folders.spool()));
    checks.push(socket_folder(context));
    checks.push(psql().await);
    drop(spinner);

    let failed = checks.iter().any(|check| check.status == Status::Fail);
    let report = Report { version: env!("CARGO_PKG_VERSION"), settings: settings(context), checks };
    if context.output.is_json() {
        context.output.json(&report)?;
    } else {
        print(&report, context);
    }
    Ok(if failed { Exit::Failure.into() } else { ExitCode::SUCCESS })
}

impl Check {
    fn ok(check: &'static str, detail: impl Into<String>) -> Self {
        Self { check, status: Status::Ok, detail: detail.into(), hint: None }
    }

    fn warn(check: &'static str, detail: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { check, status: Status::Warn, detail: detail.into(), hint: Some(hint.into()) }
    }

    fn fail(check: &'static str, failure: &Failure) -> Self {
        Self {
            check,
            status: Status::Fail,
            detail: failure.message().to_owned(),
            hint: failure.way_out().map(str::to_owned),
        }
    }
}

fn print(report: &Report, context: &Context) {
    let output = &context.output;
    output.line(format!("pgate {}", report.version));
    let rows: Vec<_> = report
        .settings
        .iter()
        .map(|line| {
            let value = line.value.clone().unwrap_or_else(|| "–".into());
            [line.setting.to_owned(), value, line.source.clone()]
        })
        .collect();
    output.table(["SETTING", "VALUE", "SOURCE"], &rows);
    for check in &report.checks {
        let word = match check.status {
            Status::Ok => console::style("ok  ").green(),
            Status::Warn => console::style("warn").yellow(),
            Status::Fail => console::style("fail").red(),
        };
        output.line(format!("{word}  {:8}  {}", check.check, escaped(&check.detail)));
        if let Some(hint) = &check.hint {
            output.line(format!("{:16}{} {}", "", console::style("→").dim(), escaped(hint)));
        }
    }
}

fn settings(context: &Context) -> Vec<Line> {
    fn line<T>(
        name: &'static str,
        setting: Option<&Setting<T>>,
        show: impl Fn(&T) -> String,
    ) -> Line {
        Line {
            setting: name,
            value: setting.map(|setting| show(&setting.value)),
            source: setting.map_or_else(|| "not set".into(), |setting| setting.source.to_string()),
        }
    }
    let settings = &context.settings;
    vec![
        line("server", settings.server.as_ref(), ToString::to_string),
        line("output", Some(&settings.output), |format| {
            match format {
                OutputFormat::Text => "text",
                OutputFormat::Json => "json",
            }
            .into()
        }),
        line("target", settings.target.as_ref(), Clone::clone),
        line("role", settings.role.as_ref(), Clone::clone),
        line("socket_dir", settings.socket_dir.as_ref(), |folder| folder.display().to_string()),
        line("keyring", Some(&settings.keyring), |keyring| {
            match keyring {
                Keyring::Auto => "auto",
                Keyring::Off => "off",
            }
            .into()
        }),
    ]
}

fn settings_files(context: &Context) -> Check {
    let own = context.folders.settings_file();
    match context.settings.ignored.first() {
        Some(ignored) => Check::warn(
            "settings",
            format!("{} was not read: {}", ignored.file.display(), ignored.reason),
            "remove it, or change its owner",
        ),
        None if own.exists() => Check::ok("settings", format!("{} was read", own.display())),
        None => Check::ok("settings", format!("{} would be read", own.display())),
    }
}

async fn reach(context: &Context) -> (Check, Option<ServerInfo>) {
    let asked = Instant::now();
    let client = match context.public_client() {
        Ok(client) => client,
        Err(failure) => return (Check::fail("server", &failure), None),
    };
    match client.info().await {
        Ok(info) => {
            let took = asked.elapsed().as_millis();
            (Check::ok("server", format!("{} answered in {took} ms", client.server())), Some(info))
        }
        Err(api::Error::Unreachable { server, reason }) => {
            let failure = Failure::new(
                Exit::Unreachable,
                "unreachable",
                format!("can't reach {server}: {}", escaped(&reason)),
            )
            .hint("check the URL, your network or VPN, and that the server runs");
            (Check::fail("server", &failure), None)
        }
        Err(error) => (Check::fail("server", &error.into()), None),
    }
}

fn version(info: &ServerInfo) -> Check {
    let own = env!("CARGO_PKG_VERSION");
    if info.version == own {
        Check::ok("version", format!("{own} here and on the server"))
    } else {
        Check::warn(
            "version",
            format!("{own} here, {} on the server", info.version),
            "install the server's version if something behaves oddly",
        )
    }
}

fn clock(info: &ServerInfo) -> Check {
    match clock_difference(info.now, Timestamp::now()) {
        None => Check::ok("clock", "agrees with the server's"),
        Some(difference) => {
            Check::warn("clock", difference, "set it: tokens and grants end by the clock")
        }
    }
}

/// Whether the server takes the login, and as whom.
async fn login(context: &Context) -> Check {
    let source = match context.workload() {
        Ok(workload) => workload.map(|workload| workload.source()),
        Err(failure) => return Check::fail("login", &failure),
    };
    let who = match context.client() {
        Ok(client) => Client::whoami(&client).await.map_err(Failure::from),
        Err(failure) => Err(failure),
    };
    match (who, source) {
        (Ok(identity), Some(source)) => Check::ok("login", format!("{identity} by {source}")),
        (Ok(identity), None) => Check::ok("login", format!("{identity}")),
        (Err(failure), None) if failure.exit() == Exit::NotLoggedIn => {
            Check { status: Status::Warn, ..Check::fail("login", &failure) }
        }
        (Err(failure), _) => Check::fail("login", &failure),
    }
}

/// What can be said about the login while the server is out of reach.
async fn stored_login(context: &Context) -> Check {
    let Ok(server) = context.server() else {
        return Check::warn("login", "without a server there is none", "name the server first");
    };
    let server = server.value.clone();
    match with_store(&context.store(), move |store| store.load(&server)).await {
        Ok(Some((login, _))) => {
            let ends = moment(login.expires_at(), Timestamp::now());
            let then = if login.is_renewable() { "is renewed then" } else { "is over then" };
            Check::ok("login", format!("{} ({}); {then}: {ends}", login.who(), login.issuer()))
        }
        Ok(None) => Check::warn("login", "you are not logged in", "run `pgate login`"),
        Err(error) => Check::fail("login", &error.into()),
    }
}

async fn keyring(context: &Context) -> Check {
    if context.settings.keyring.value == Keyring::Off {
        let file = context.folders.logins_file();
        return Check::ok("keyring", format!("switched off; tokens are in {}", file.display()));
    }
    let answer = with_store(&context.store(), |store| Ok(store.check_keyring())).await;
    match answer {
        Ok(Ok(())) => Check::ok("keyring", "tokens are kept in it"),
        Ok(Err(why)) => Check::warn(
            "keyring",
            format!("{why}; tokens are kept in {}", context.folders.logins_file().display()),
            "that file is for you alone (0600); set PGATE_KEYRING=off to stop asking",
        ),
        Err(error) => Check::fail("keyring", &error.into()),
    }
}

/// Whether session logs can be written, and whether some wait.
fn spool(folder: &Path) -> Check {
    if let Err(error) = writable(folder) {
        let failure = Failure::new(
            Exit::Failure,
            "spool",
            format!("session logs can't be written to {}: {error}", folder.display()),
        )
        .hint("make the folder writable for you and free some space; without a log nothing runs");
        return Check::fail("spool", &failure);
    }
    let found = orphans(folder);
    match found.len() {
        0 => Check::ok("spool", format!("{} is writable; nothing waits", folder.display())),
        waiting => Check::warn(
            "spool",
            format!("{waiting} session log(s) in {} wait for their upload", folder.display()),
            "run `pgate log upload`",
        ),
    }
}

fn writable(folder: &Path) -> io::Result<()> {
    // Where there is no spool yet, the nearest folder that exists decides.
    let existing = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("/"));
    tempfile::Builder::new().prefix(".pgate-doctor-").tempfile_in(existing).map(|_| ())
}

/// Whether `connect` can make its socket there.
fn socket_folder(context: &Context) -> Check {
    let folder = match &context.settings.socket_dir {
        Some(setting) => setting.value.clone(),
        None => std::env::temp_dir(),
    };
    match fs::metadata(&folder).and_then(|_| writable(&folder)) {
        Ok(()) => Check::ok("sockets", format!("{} is writable", folder.display())),
        Err(error) => {
            let problem = format!("no socket can be made in {}: {error}", folder.display());
            let failure = Failure::new(Exit::Failure, "sockets", problem)
                .hint("set PGATE_SOCKET_DIR to a folder that you may write to");
            Check::fail("sockets", &failure)
        }
    }
}

async fn psql() -> Check {
    let missing = || {
        Check::warn(
            "psql",
            "it is not on PATH",
            "install PostgreSQL's client (postgresql-client, libpq), or use another client",
        )
    };
    let Some(program) = on_path("psql") else { return missing() };
    let asked = tokio::process::Command::new(&program)
        .arg("--version")
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true)
        .output();
    match tokio::time::timeout(Duration::from_secs(5), asked).await {
        Ok(Ok(output)) if output.status.success() => {
            let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            Check::ok("psql", format!("{version} ({})", program.display()))
        }
        Ok(Ok(output)) => Check::warn(
            "psql",
            format!("{} --version ends with {}", program.display(), output.status),
            "install it anew",
        ),
        Ok(Err(error)) => Check::warn(
            "psql",
            format!("{} can't be started: {error}", program.display()),
            "install it anew",
        ),
        Err(_) => Check::warn(
            "psql",
            format!("{} --version gives no answer", program.display()),
            "install it anew",
        ),
    }
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
