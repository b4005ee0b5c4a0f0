//! What is measured: the works, and how each is done once, for some seconds, by one way.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};

use super::{
    client::Client,
    process,
    stand::{Stand, Way},
};

/// A work, and the ways that it is done by.
pub(crate) struct Work {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) task: Task,
    pub(crate) ways: Vec<Way>,
}

/// What there is to do.
pub(crate) enum Task {
    /// This script of pgbench's, with these arguments.
    Pgbench { script: &'static str, arguments: &'static [&'static str], queries: u32 },
    /// This statement, again and again on one connection.
    Read(&'static str),
    /// COPY into `bench.sink`, the same way.
    Write,
}

/// What one turn has shown.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sample {
    /// Units a second.
    pub(crate) rate: f64,
    /// Microseconds of the proxy's own processor time a unit.
    pub(crate) cpu: Option<f64>,
}

const POINT: &str = "\\set id random(1, 5000)\nSELECT balance FROM bench.hot WHERE id = :id;\n";
/// What each new connection asks: one text, since the logins are what counts.
const ONE_ROW: &str = "SELECT balance FROM bench.hot WHERE id = 1;\n";
/// No two texts are the same, and the server's work is.
const DISTINCT: &str = "\\set id random(1, 5000)\n\\set nonce random(1000000, 1000000000000000)\n\
                        SELECT balance FROM bench.hot WHERE id = :id AND id <> :nonce;\n";
const PIPELINE: &str = concat!(
    "\\set id random(1, 5000)\n\\startpipeline\n",
    "SELECT balance FROM bench.hot WHERE id = :id;\n",
    "SELECT balance FROM bench.hot WHERE id = :id;\n",
    "SELECT balance FROM bench.hot WHERE id = :id;\n",
    "SELECT balance FROM bench.hot WHERE id = :id;\n",
    "SELECT balance FROM bench.hot WHERE id = :id;\n",
    "SELECT balance FROM bench.hot WHERE id = :id;\n",
    "SELECT balance FROM bench.hot WHERE id = :id;\n",
    "SELECT balance FROM bench.hot WHERE id = :id;\n",
    "SELECT balance FROM bench.hot WHERE id = :id;\n",
    "SELECT balance FROM bench.hot WHERE id = :id;\n",
    "\\endpipeline\n"
);
const CUSTOMER: &str =
    "\\set id random(1, 5000)\nSELECT id, name, email FROM shop.customers WHERE id = :id;\n";
/// What the mask `email` shows, as a person would write it.
const CUSTOMER_BY_HAND: &str = "\\set id random(1, 5000)\n\
    SELECT id, name, left(email, 1) || '***@' || split_part(email, '@', 2) AS email \
    FROM shop.customers WHERE id = :id;\n";

const PREPARED_16: &[&str] = &["--protocol=prepared", "--client=16", "--jobs=2"];
const SIMPLE_16: &[&str] = &["--protocol=simple", "--client=16", "--jobs=2"];
const PREPARED_1: &[&str] = &["--protocol=prepared"];
const SIMPLE_1: &[&str] = &["--protocol=simple"];
const NEW_CONNECTIONS: &[&str] = &["--protocol=simple", "--connect", "--client=4"];

pub(crate) const PREPARED: &str = "select-only, prepared, 16 clients";
pub(crate) const SIMPLE: &str = "select-only, simple, 16 clients";
pub(crate) const PREPARED_ALONE: &str = "select-only, prepared, 1 client";
pub(crate) const SIMPLE_ALONE: &str = "select-only, simple, 1 client";
pub(crate) const PIPELINED: &str = "pipelined (10), prepared, 1 client";
pub(crate) const NEVER_CACHED: &str = "distinct statements, simple, 16 clients";
pub(crate) const LARGE: &str = "1M-row SELECT";
pub(crate) const COPY_OUT: &str = "COPY out, 1M rows";
pub(crate) const COPY_IN: &str = "COPY in";
pub(crate) const LOGINS: &str = "new connections, 4 clients";
pub(crate) const MASKED: &str = "masked point select, prepared, 16 clients";

/// The ways that take part.
pub(crate) struct Ways {
    pub(crate) direct: Way,
    pub(crate) forwarder: Way,
    /// By TCP and by Unix socket.
    pub(crate) pgbouncer: Option<(Way, Way)>,
    pub(crate) pgate: (Way, Way),
    pub(crate) detector: Way,
    pub(crate) unmasked: Way,
}

pub(crate) const DETECTOR: &str = "pgate, detecting";
pub(crate) const BY_HAND: &str = "mask by hand, direct";
pub(crate) const BY_HAND_THROUGH: &str = "mask by hand, through pgate";

/// Every work, in the order in which they are done.
pub(crate) fn works(ways: &Ways) -> Vec<Work> {
    let with = |further: &[&Way]| {
        let mut all = vec![ways.direct.clone(), ways.forwarder.clone()];
        all.extend(ways.pgbouncer.iter().map(|(tcp, _)| tcp.clone()));
        all.push(ways.pgate.0.clone());
        all.extend(further.iter().map(|way| (*way).clone()));
        all
    };
    let mut sockets = ways.pgbouncer.iter().map(|(_, unix)| unix).collect::<Vec<_>>();
    sockets.push(&ways.pgate.1);
    let named = |name, way: &Way| Way { name, ..way.clone() };
    let pgbench = |name, script, arguments, ways| Work {
        name,
        unit: "query",
        task: Task::Pgbench { script, arguments, queries: 1 },
        ways,
    };
    vec![
        pgbench(PREPARED, POINT, PREPARED_16, with(&sockets)),
        pgbench(SIMPLE, POINT, SIMPLE_16, with(&sockets)),
        pgbench(NEVER_CACHED, DISTINCT, SIMPLE_16, with(&[])),
        pgbench(PREPARED_ALONE, POINT, PREPARED_1, with(&[])),
        pgbench(SIMPLE_ALONE, POINT, SIMPLE_1, with(&[])),
        Work {
            name: PIPELINED,
            unit: "query",
            task: Task::Pgbench { script: PIPELINE, arguments: PREPARED_1, queries: 10 },
            ways: with(&[]),
        },
        Work {
            name: LARGE,
            unit: "MB",
            task: Task::Read("SELECT * FROM bench.big"),
            ways: with(&[&named(DETECTOR, &ways.detector)]),
        },
        Work {
            name: COPY_OUT,
            unit: "MB",
            task: Task::Read("COPY bench.big TO STDOUT"),
            ways: with(&[]),
        },
        Work { name: COPY_IN, unit: "MB", task: Task::Write, ways: with(&[]) },
        Work {
            name: LOGINS,
            unit: "login",
            task: Task::Pgbench { script: ONE_ROW, arguments: NEW_CONNECTIONS, queries: 1 },
            ways: with(&[]),
        },
        pgbench(MASKED, CUSTOMER, PREPARED_16, vec![ways.pgate.0.clone()]),
        pgbench(
            MASKED,
            CUSTOMER_BY_HAND,
            PREPARED_16,
            vec![named(BY_HAND, &ways.direct), named(BY_HAND_THROUGH, &ways.unmasked)],
        ),
    ]
}

impl Work {
    /// One way's turn: about `seconds`, and one more to get going.
    pub(crate) fn turn(&self, stand: &Stand, way: &Way, seconds: u32) -> anyhow::Result<Sample> {
        let turn = match &self.task {
            Task::Pgbench { script, arguments, queries } => {
                pgbench(stand, way, script, arguments, seconds).map(|sample| Sample {
                    rate: sample.rate * f64::from(*queries),
                    cpu: sample.cpu.map(|cpu| cpu / f64::from(*queries)),
                })
            }
            Task::Read(sql) => repeatedly(way, seconds, |client| client.read(sql)),
            Task::Write => {
                let chunk = rows_to_copy();
                let copy = |client: &mut Client| {
                    client.write("COPY bench.sink FROM STDIN", chunk.as_bytes(), 8)
                };
                let turn = repeatedly(way, seconds, copy);
                stand.psql("TRUNCATE bench.sink")?;
                turn
            }
        };
        turn.with_context(|| format!("{} by {}", self.name, way.name))
    }
}

/// About a megabyte of rows for `bench.sink`.
fn rows_to_copy() -> String {
    (1..=15_000_u32)
        .map(|n| {
            format!(
                "{n}\t{}\t{}\t{n}7919\torder {n} left at the back door of {n:032x}\n",
                n % 1000,
                n * 3
            )
        })
        .collect()
}

/// Runs pgbench past its first second, which holds its logins, and then counts.
fn pgbench(
    stand: &Stand,
    way: &Way,
    script: &str,
    arguments: &[&str],
    seconds: u32,
) -> anyhow::Result<Sample> {
    let file = stand.folder().join("script.sql");
    fs::write(&file, script)?;
    let mut command = Command::new(stand.pgbench());
    command
        .args(arguments)
        .args(["--no-vacuum", "--progress=1", "--time=3600"])
        .arg("--file")
        .arg(&file)
        .env("PGHOST", &way.host)
        .env("PGPORT", way.port.to_string())
        .env("PGUSER", &way.user)
        .env("PGPASSWORD", &way.password)
        .env("PGDATABASE", &way.database)
        .env("PGSSLMODE", "disable")
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut running = Running(command.spawn().context("pgbench can't be run")?);
    let errors = running.0.stderr.take().expect("standard error was asked to be a pipe");
    let mut said = String::new();
    let mut rates = Vec::new();
    let mut begun = None;
    for line in BufReader::new(errors).lines() {
        let line = line?;
        let Some(rate) = progress(&line) else {
            said += &line;
            said.push('\n');
            continue;
        };
        let Some((used, at)) = begun else {
            begun = Some((used_by(way)?, Instant::now()));
            continue;
        };
        rates.push(rate);
        if rates.len() == seconds as usize {
            let rate = rates.iter().sum::<f64>() / f64::from(seconds);
            return sample(rate * Instant::now().duration_since(at).as_secs_f64(), at, way, used);
        }
    }
    bail!("pgbench ended early: {}", said.trim());
}

/// Reads `progress: 2.0 s, 10234.5 tps, lat 1.563 ms stddev 0.402, 0 failed`.
fn progress(line: &str) -> Option<f64> {
    let (_, rest) = line.strip_prefix("progress: ")?.split_once(" s, ")?;
    rest.split_once(" tps")?.0.parse().ok()
}

/// A pgbench that is ended when it is no longer wanted.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Does something that moves bytes on one connection, once to get going and then
/// for some seconds.
fn repeatedly(
    way: &Way,
    seconds: u32,
    mut work: impl FnMut(&mut Client) -> anyhow::Result<u64>,
) -> anyhow::Result<Sample> {
    let mut client = Client::connect(way)?;
    work(&mut client)?;
    let used = used_by(way)?;
    let start = Instant::now();
    let mut bytes = 0;
    while start.elapsed() < Duration::from_secs(seconds.into()) {
        bytes += work(&mut client)?;
    }
    sample(bytes as f64 / 1e6, start, way, used)
}

fn used_by(way: &Way) -> anyhow::Result<Option<Duration>> {
    Ok(way.process.map(process::cpu).transpose()?)
}

fn sample(units: f64, since: Instant, way: &Way, used: Option<Duration>) -> anyhow::Result<Sample> {
    let rate = units / since.elapsed().as_secs_f64();
    let cpu = used_by(way)?.zip(used).map(|(now, then)| (now - then).as_secs_f64() * 1e6 / units);
    Ok(Sample { rate, cpu })
}
