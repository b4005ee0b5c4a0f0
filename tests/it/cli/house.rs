//! A control plane with its issuer, and people who each have a home and a pgate.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use pgate::{
    demo::issuer::{Issuer, Options, Person},
    server::{Server, config::Config},
};
use secrecy::ExposeSecret as _;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    sync::oneshot,
    task::JoinHandle,
};

/// What the people of these tests may ask for.
const POLICY: &str = r#"
[target.prod-db]
url = "postgres://127.0.0.1:1/shop?sslmode=disable"
credential = { kind = "static", user = "app", password = "file:app.password" }

[role.readonly]
about = "Read the shop"
targets = ["prod-db"]
ttl = "1h"
max_ttl = "8h"
allow = [{ actions = ["select"], on = ["shop.*"] }]

[role.writer]
about = "Change the shop"
targets = ["prod-db"]
ttl = "30m"
max_ttl = "2h"
allow = [{ actions = ["select", "update"], on = ["shop.*"] }]

[[access]]
who = { group = "engineering" }
role = "readonly"
target = "prod-db"
approval = "auto"

[[access]]
who = { issuer = "ci", repository = "acme/shop" }
role = "readonly"
target = "prod-db"
approval = "auto"

[[access]]
who = { group = "engineering" }
role = "writer"
target = "prod-db"
approval = { reviewers = "group:dba", count = 1 }
"#;

/// How long a command may take before its test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// The control plane, its issuer, and a folder for everybody's files.
pub(crate) struct House {
    pub(crate) issuer: Issuer,
    pub(crate) url: String,
    folder: TempDir,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<()>>,
}

impl House {
    pub(crate) async fn build() -> Self {
        Self::with_tokens_for(Duration::from_secs(3600)).await
    }

    /// A house whose issuer's tokens live this long.
    pub(crate) async fn with_tokens_for(token_lifetime: Duration) -> Self {
        Self::raise(token_lifetime, None).await
    }

    /// A house whose people come from another issuer than our own.
    pub(crate) async fn with_people_of(issuer: &str) -> Self {
        Self::raise(Duration::from_secs(3600), Some(issuer)).await
    }

    async fn raise(token_lifetime: Duration, people_of: Option<&str>) -> Self {
        let issuer = Issuer::start(Options {
            people: vec![
                Person::new("ana@example.com", &["engineering"]),
                Person::new("bo@example.com", &["engineering", "dba"]),
            ],
            token_lifetime,
            interval: Some(1),
            ..Options::default()
        })
        .await
        .expect("an issuer");
        let folder = tempfile::tempdir().expect("a folder");
        let policy = folder.path().join("policy");
        fs::create_dir(&policy).expect("a folder");
        fs::write(policy.join("shop.toml"), POLICY).expect("a policy");
        fs::write(policy.join("app.password"), "static\n").expect("a password");
        let config = format!(
            r#"
            listen = "127.0.0.1:0"
            store = "sqlite:pgate.db"
            archive = "file:sessions"
            signing_key = "file:signing.key"
            policy = "policy/"
            [[issuer]]
            name = "corp"
            url = "{people_of}"
            client_id = "pgate"
            groups_claim = "groups"
            scopes = ["email", "groups", "offline_access"]
            [[issuer]]
            name = "ci"
            url = "{url}"
            audience = "pgate-ci"
            claims = ["repository"]
            "#,
            url = issuer.url(),
            people_of = people_of.unwrap_or(issuer.url()),
        );
        let config = Config::parse(&config, "pgate.toml", folder.path()).expect("a configuration");
        let server = Server::bind(config).await.expect("a control plane");
        let url = format!("http://{}", server.local_addr());
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            let shutdown = async {
                let _ = stopped.await;
            };
            server.run(shutdown).await.expect("it runs until it is stopped");
        });
        Self { issuer, url, folder, stop: Some(stop), running: Some(running) }
    }

    /// Stops the control plane.
    pub(crate) async fn stop(&mut self) {
        if let (Some(stop), Some(running)) = (self.stop.take(), self.running.take()) {
            let _ = stop.send(());
            running.await.expect("it stops");
        }
    }

    /// A person's home; it is made at the first use.
    pub(crate) fn home(&self, who: &str) -> PathBuf {
        let home = self.folder.path().join("homes").join(who);
        fs::create_dir_all(&home).expect("a home");
        home
    }

    /// `pgate` in a person's hermetic environment.
    pub(crate) fn pgate(&self, who: &str, arguments: &[&str]) -> Command {
        let mut command = pgate(&self.home(who));
        command.env("PGATE_SERVER", &self.url).args(arguments);
        command
    }

    /// `pgate` with a person's token in the environment instead of a login.
    pub(crate) fn with_token(&self, who: &str, arguments: &[&str]) -> Command {
        let token = self.issuer.id_token(&format!("{who}@example.com")).expect("a person");
        let mut command = self.pgate(who, arguments);
        command.env("PGATE_TOKEN", token.expose_secret());
        command
    }

    /// Logs a person in by the device flow.
    pub(crate) async fn log_in(&self, who: &str) {
        let mut login = self.pgate(who, &["login", "--output", "json"]);
        let child = login.spawn().expect("it starts");
        self.enter_code(|code| self.issuer.approve(code, &format!("{who}@example.com"))).await;
        finished(child).await.succeeds();
    }

    /// Answers the next code that waits at the issuer.
    pub(crate) async fn enter_code<E: std::fmt::Debug>(
        &self,
        answer: impl Fn(&str) -> Result<(), E>,
    ) {
        let code = soon(|| self.issuer.waiting().first().cloned()).await;
        answer(&code).expect("the code waits");
    }
}

/// `pgate` with nothing of this process's environment but PATH.
pub(crate) fn pgate(home: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgate"));
    command
        .env_clear()
        .env("HOME", home)
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("TZ", "UTC")
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// How a command ended.
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        self.exits(0)
    }

    /// Checks the exit code, and that nothing secret was said.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        let all = format!("{}\n{}", self.stdout, self.stderr);
        assert_eq!(self.code, Some(code), "{all}");
        assert!(!all.contains("panicked"), "{all}");
        // Every JWT of these tests begins so.
        assert!(!all.contains("eyJ"), "a token was printed: {all}");
        self
    }

    /// The last line of stdout, as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let line = self.stdout.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }

    /// The last line of stderr, as JSON.
    #[track_caller]
    pub(crate) fn problem(&self) -> Value {
        let line = self.stderr.lines().last().unwrap_or_default();
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {}", self.stderr))
    }
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// Runs a command to its end.
pub(crate) async fn run(mut command: Command) -> Ended {
    finished(command.spawn().expect("it starts")).await
}

/// Waits for a running command's end.
pub(crate) async fn finished(child: Child) -> Ended {
    let output = tokio::time::timeout(PATIENCE, child.wait_with_output()).await;
    output.expect("it ends in time").expect("it can be waited for").into()
}

/// Looks until there is something, for as long as a test may take.
pub(crate) async fn soon<T>(look: impl Fn() -> Option<T>) -> T {
    let looking = async {
        loop {
            if let Some(found) = look() {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.expect("it comes in time")
}
