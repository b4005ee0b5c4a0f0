//! One role under one credential: a real `pgate connect` before a database of its
//! own, and the administrator beside it, who sees what was done.

use std::{
    collections::BTreeMap,
    io::{BufRead as _, BufReader},
    process::{Child, Stdio},
    time::Duration,
};

use pgate::demo::stage::Stage;
use secrecy::ExposeSecret as _;
use sqlx::{AssertSqlSafe, PgConnection, Row as _, postgres::PgListener};

use super::{
    client::{Client, Door, Received},
    corpus::{Case, Expected, Step},
    secrets::Secrets,
};
use crate::harness;

/// A target and its role.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setting {
    /// `owned` (a static superuser) or `least` (a role of the session's own).
    pub(super) credential: &'static str,
    pub(super) role: &'static str,
}

impl Setting {
    pub(super) fn target(self) -> String {
        format!("{}-{}", self.credential, self.role)
    }

    fn policy_role(self) -> String {
        format!("masked-{}", self.role)
    }

    pub(super) fn database(self) -> String {
        format!("attack_{}_{}", self.credential, self.role)
    }
}

/// What a case did that it should not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// These secrets came out.
    Leaked(String),
    /// Two guesses are told apart.
    Inferred(String),
    /// This part of the database changed.
    Effect(String),
    /// It wasn't answered as it should be.
    Answer(String),
}

/// So many cases that only read are looked at together for effects.
const QUIET: usize = 25;

pub(super) struct Lane<'a> {
    stage: &'a Stage,
    secrets: &'a Secrets,
    setting: Setting,
    admin: PgConnection,
    listener: PgListener,
    process: Child,
    door: Door,
    prints: BTreeMap<String, String>,
    /// The connection that cases which leave nothing behind share.
    shared: Option<Client>,
    /// Cases since the last look for effects.
    quiet: Vec<String>,
}

/// What a client has heard of one run.
struct Heard {
    received: Received,
    /// Messages of the handshake, which are left out of what two guesses are compared by.
    greeting: usize,
    hung: bool,
}

impl<'a> Lane<'a> {
    pub(super) async fn start(
        stage: &'a Stage,
        secrets: &'a Secrets,
        setting: Setting,
    ) -> Lane<'a> {
        let mut admin = stage.cluster().connect(&setting.database()).await.unwrap();
        sqlx::raw_sql("SET lock_timeout = '10s'").execute(&mut admin).await.unwrap();
        let listener = listener(stage, setting, &mut admin).await;
        let (process, door) = connect(stage, &setting.target(), &setting.policy_role());
        let (prints, shared, quiet) = (BTreeMap::new(), None, Vec::new());
        let mut lane =
            Self { stage, secrets, setting, admin, listener, process, door, prints, shared, quiet };
        lane.prints = lane.prints().await;
        lane.execute("NOTIFY attack, 'a trial'").await;
        assert_eq!(lane.notified().await, ["attack: a trial"], "the listener hears");
        lane
    }

    pub(super) fn setting(&self) -> Setting {
        self.setting
    }

    /// Runs a case; says what is wrong.
    pub(super) async fn run(&mut self, case: &Case) -> Vec<Failure> {
        let mut failures = Vec::new();
        let text = case.text();
        let first = self.heard(case, true).await;
        let leaked = self.secrets.in_received(&first.received, &text);
        let shown = first.received.shown();
        if !leaked.is_empty() {
            failures.push(Failure::Leaked(format!("{leaked:?} in {shown}")));
        }
        if first.hung {
            failures.push(Failure::Answer(format!("no end after {shown}")));
        }
        failures.extend(self.judged(case, &first));
        let mut quiet = first.received.is_quiet();
        if let Some((one, other)) = case.guesses() {
            failures.extend(self.effects_of(case, quiet).await);
            let second = self.heard(case, false).await;
            quiet = second.received.is_quiet();
            let (a, b) = (&first.received.without(&one), &second.received.without(&other));
            let greeting = (first.greeting.min(a.len()), second.greeting.min(b.len()));
            if a[greeting.0..] != b[greeting.1..] {
                let other = second.received.shown();
                failures.push(Failure::Inferred(format!("{shown}\n      against\n      {other}")));
            }
        }
        failures.extend(self.effects_of(case, quiet).await);
        if self.process.try_wait().unwrap().is_some() {
            // Where tables change under it, the tripwire may end a session.
            if !case.has_an_administrator() {
                failures.push(Failure::Answer(format!("the session ended: {shown}")));
            }
            self.shared = None;
            (self.process, self.door) =
                connect(self.stage, &self.setting.target(), &self.setting.policy_role());
        }
        failures
    }

    /// Looks for effects now, or later where the case seems to have had none.
    async fn effects_of(&mut self, case: &Case, quiet: bool) -> Vec<Failure> {
        self.quiet.push(case.name.clone());
        if quiet && self.quiet.len() < QUIET {
            return Vec::new();
        }
        self.look_for_effects().await
    }

    /// Looks for effects of all cases since the last look.
    pub(super) async fn look_for_effects(&mut self) -> Vec<Failure> {
        let effects = self.effects().await;
        let quiet = std::mem::take(&mut self.quiet);
        let told = |effect: String| Failure::Effect(format!("{effect}, by one of {quiet:?}"));
        effects.into_iter().map(told).collect()
    }

    /// What the client hears of one run.
    async fn heard(&mut self, case: &Case, first: bool) -> Heard {
        let steps = case.steps(first);
        let leaves_nothing = steps.iter().all(Step::leaves_nothing);
        let shared = if leaves_nothing { self.shared.take() } else { None };
        let mut client = shared.unwrap_or_else(|| Client::new(&self.door));
        let mut changed = false;
        for step in &steps {
            match step {
                Step::Admin(sql) => {
                    changed = true;
                    self.execute(sql).await;
                    self.noticed().await;
                }
                Step::Afterwards(_) => changed = true,
                Step::Pause(ms) => tokio::time::sleep(Duration::from_millis(*ms)).await,
                step => client.step(step).await,
            }
        }
        if steps.iter().any(|step| matches!(step, Step::Message(_))) {
            client.drain(Duration::from_millis(20)).await;
        }
        let heard = Heard {
            received: std::mem::take(&mut client.received),
            greeting: std::mem::take(&mut client.greeting),
            hung: client.hung(),
        };
        if leaves_nothing && client.is_open() {
            self.shared = Some(client);
        } else {
            // With it goes every lock.
            drop(client);
        }
        if changed {
            for step in steps.iter().rev() {
                if let Step::Afterwards(sql) = step {
                    self.execute(sql).await;
                }
            }
            self.noticed().await;
        }
        heard
    }

    /// A question about an unknown table makes the proxy look at the catalog again.
    async fn noticed(&mut self) {
        let mut client = Client::new(&self.door);
        client.step(&Step::Query("SELECT 1 FROM nowhere_to_be_found".into())).await;
        if client.received.bytes().is_empty() {
            // The session has ended; its process is about to.
            self.process.wait().unwrap();
        }
    }

    async fn execute(&mut self, sql: &str) {
        let done = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut self.admin).await;
        done.unwrap_or_else(|error| panic!("the administrator: {sql}: {error}"));
    }

    fn judged(&self, case: &Case, heard: &Heard) -> Option<Failure> {
        let errors = heard.received.errors();
        let refused = errors.iter().any(|(code, message)| {
            // pgate says itself what it can't read, and that it knows no such statement or portal.
            ["26000", "34000", "42601"].contains(&&**code)
                || message.contains("pgate")
                    && ["42501", "42622", "22023", "28000", "3D000", "54000"].contains(&&**code)
        });
        let answered = match case.expected {
            Expected::Anything => true,
            Expected::Refused => refused,
            Expected::AtMost(most) => heard.received.rows() <= most,
            Expected::Masked => errors.is_empty() && heard.received.rows() > 0,
        };
        let shown = heard.received.shown();
        (!answered).then(|| Failure::Answer(format!("not {:?}: {shown}", case.expected)))
    }

    /// What changed that may not; it is put back where that is possible.
    async fn effects(&mut self) -> Vec<String> {
        let prints = self.prints().await;
        let notified = self.notified().await.into_iter();
        let mut effects = notified.map(|what| format!("notified: {what}")).collect::<Vec<_>>();
        let mut restore = false;
        let writable = ["customers", "orders", "tickets", "loud", "late"];
        for (part, print) in &prints {
            if self.prints.get(part) == Some(print) {
                continue;
            }
            let may = writable.iter().any(|table| *part == format!("rows of shop.{table}"));
            restore |= may;
            if self.setting.role != "writer" || !may {
                effects.push(format!("{part}: {:?} became {print}", self.prints.get(part)));
            }
        }
        let gone = self.prints.keys().filter(|part| !prints.contains_key(*part));
        effects.extend(gone.map(|part| format!("{part} is gone")));
        if restore {
            let stored = sqlx::raw_sql("SELECT attack.stored()").fetch_one(&mut self.admin).await;
            let stored = stored.unwrap().get::<String, _>(0).to_ascii_lowercase();
            let found = self.secrets.among([stored.as_bytes()], "");
            if !found.is_empty() {
                effects.push(format!("stored where nobody masks: {found:?}"));
            }
            self.execute("SELECT attack.restore()").await;
        }
        if !effects.is_empty() || restore {
            self.prints = self.prints().await;
        }
        effects
    }

    /// What somebody who listens to the database directly has heard. They come in the order
    /// of commits, so the administrator's own is the last.
    async fn notified(&mut self) -> Vec<String> {
        self.execute(&format!("NOTIFY {LAST_NOTIFICATION}")).await;
        let mut heard = Vec::new();
        loop {
            let notification = self.listener.recv().await.expect("the listener stays connected");
            if notification.channel() == LAST_NOTIFICATION {
                return heard;
            }
            heard.push(format!("{}: {}", notification.channel(), notification.payload()));
        }
    }

    async fn prints(&mut self) -> BTreeMap<String, String> {
        let sql = "SELECT part, print FROM attack.prints()";
        let rows = sqlx::raw_sql(sql).fetch_all(&mut self.admin).await.unwrap();
        rows.iter().map(|row| (row.get(0), row.try_get(1).unwrap_or_default())).collect()
    }
}

impl Drop for Lane<'_> {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The channel on which the administrator says that nothing more is to come.
const LAST_NOTIFICATION: &str = "administrator";

/// Somebody who listens beside the proxy, also where a channel's name is a value.
async fn listener(stage: &Stage, setting: Setting, admin: &mut PgConnection) -> PgListener {
    let url = stage.cluster().admin_url_of(&setting.database());
    let mut listener = PgListener::connect(url.expose_secret()).await.unwrap();
    let values =
        "SELECT DISTINCT email FROM shop.customers WHERE octet_length(email) BETWEEN 1 AND 63";
    let rows = sqlx::raw_sql(values).fetch_all(admin).await.unwrap();
    let values = rows.iter().map(|row| row.get::<String, _>(0)).collect::<Vec<_>>();
    let channels = values.iter().map(String::as_str).chain(["attack", LAST_NOTIFICATION]);
    listener.listen_all(channels).await.unwrap();
    listener
}

/// A session of the real `pgate connect`.
pub(super) fn connect(stage: &Stage, target: &str, role: &str) -> (Child, Door) {
    let arguments = ["connect", target, "--role", role, "--reason", "attacks"];
    let mut process = harness::pgate(stage, "ana", &arguments)
        .args(["--output", "json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let ready = BufReader::new(process.stdout.take().unwrap())
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(&line.unwrap()).unwrap())
        .find(|event| event["event"] == "ready")
        .expect("a session");
    let text = |key: &str| ready[key].as_str().unwrap().to_owned();
    let socket = std::path::Path::new(&text("socket")).join(format!(".s.PGSQL.{}", ready["port"]));
    (process, Door { socket, user: text("user"), database: text("database"), password: None })
}
