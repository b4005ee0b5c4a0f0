//! What the tests share: one throwaway cluster and one stage for the whole
//! binary, a database of its own for each test, and `pgate` as somebody runs it
//! in a hermetic environment.

mod browser;
mod session;

use std::{
    path::Path,
    process::{Command, Output},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

use pgate::demo::{
    cluster::{Cluster, Options},
    stage::{self, Stage},
};
use secrecy::ExposeSecret as _;
use tokio::{runtime::Runtime, sync::OnceCell};

pub(crate) use self::{
    browser::{Browser, Page},
    session::Carried,
};

/// What is shared outlives the tests' own runtimes, so it lives on this one.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| Runtime::new().expect("a runtime starts"));

/// The `pgate` that was built for these tests.
pub(crate) fn executable() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_pgate"))
}

/// The cluster that the tests of this binary share. It goes with the process.
pub(crate) async fn cluster() -> &'static Cluster {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    // What a target may have on, and PostgreSQL by itself has not.
    let settings = vec![("max_prepared_transactions".to_owned(), "10".to_owned())];
    let options = || Options { settings: settings.clone(), ..Options::default() };
    let start = || async { Cluster::start(options()).await.expect("a cluster starts") };
    CLUSTER.get_or_init(start).await
}

/// Makes an empty database in the shared cluster and returns its name.
pub(crate) async fn database() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let make = format!("CREATE DATABASE {name}");
    cluster().await.execute("postgres", &make).await.expect("a database can be made");
    name
}

/// The stage that the tests of this binary share: cluster with the shop, issuer,
/// control plane. It goes with the process. A test that changes the shop's
/// tables starts a stage of its own.
pub(crate) async fn stage() -> &'static Stage {
    static STAGE: OnceCell<Stage> = OnceCell::const_new();
    STAGE.get_or_init(|| own_stage(stage::Options::default())).await
}

/// Starts a stage.
pub(crate) async fn own_stage(options: stage::Options) -> Stage {
    let start = RUNTIME.spawn(async { Stage::start(executable(), options).await });
    start.await.expect("starting it does not panic").expect("a stage starts")
}

/// `pgate` as this person runs it, logged in by a token of the issuer. `person`
/// is the part of the address before `@example.com`.
pub(crate) fn pgate(stage: &Stage, person: &str, arguments: &[&str]) -> Command {
    let token = stage.issuer().id_token(&format!("{person}@example.com"));
    let mut command = stage.pgate(person).expect("a home can be made");
    command.args(arguments);
    command.env("PGATE_TOKEN", token.expect("the issuer knows them").expose_secret());
    command
}

/// Runs [`pgate`] to its end.
pub(crate) fn run(stage: &Stage, person: &str, arguments: &[&str]) -> Ran {
    let output = pgate(stage, person, arguments).output().expect("pgate runs");
    Ran::new(arguments, &output)
}

/// What a finished command left.
#[derive(Debug)]
pub(crate) struct Ran {
    arguments: String,
    /// The exit code; none after a signal.
    pub(crate) code: Option<i32>,
    /// Standard output.
    pub(crate) stdout: String,
    /// Standard error.
    pub(crate) stderr: String,
}

impl Ran {
    /// What this output says of a command with these arguments.
    pub(crate) fn new(arguments: &[&str], output: &Output) -> Self {
        Self {
            arguments: arguments.join(" "),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// Fails the test, with all that was said, unless the exit code is this.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{self}");
        self
    }

    /// Fails the test unless this text is among what was said.
    #[track_caller]
    pub(crate) fn says(self, text: &str) -> Self {
        assert!(self.stdout.contains(text) || self.stderr.contains(text), "no {text:?} in {self}");
        self
    }

    /// Fails the test if this text is among what was said.
    #[track_caller]
    pub(crate) fn hides(self, text: &str) -> Self {
        assert!(!self.stdout.contains(text) && !self.stderr.contains(text), "{text:?} in {self}");
        self
    }
}

impl std::fmt::Display for Ran {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { arguments, code, stdout, stderr } = self;
        writeln!(f, "pgate {arguments}\nexit code: {code:?}")?;
        writeln!(f, "stdout:\n{stdout}\nstderr:\n{stderr}")
    }
}
