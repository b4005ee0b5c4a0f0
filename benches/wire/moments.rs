//! What is measured once, outside of the rounds: memory, the time to the first row,
//! and the cost of a record.

use std::{
    io::Read as _,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use jiff::Timestamp;
use pgate::{
    grant::SigningKey,
    journal::{Lines, Record},
    proxy::spool::{Destination, Spool},
};

use super::{
    client::Client,
    go_on, process,
    report::median,
    stand::{Stand, Way},
};

/// How many connections stay idle.
const IDLE: usize = 1000;
/// Statements that are recorded to time it.
const RECORDED: u32 = 50_000;

/// A process's resident memory, in MB.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Resident {
    pub(crate) idle: f64,
    /// The most while a large result went through, the client resting once.
    pub(crate) peak: f64,
    /// With [`IDLE`] idle connections.
    pub(crate) crowded: f64,
}

/// Measures the process that a way leads through; it should be a fresh one.
pub(crate) fn resident(way: &Way, megabytes: u32) -> anyhow::Result<Resident> {
    let process = way.process.context("no process in between")?;
    let settle = || thread::sleep(Duration::from_secs(1));
    let mut client = Client::connect(way)?;
    client.read("SELECT 1")?;
    settle();
    let idle = process::memory(process)?.now;

    process::forget_peak(process)?;
    let large = format!("SELECT repeat('x', 1000) FROM generate_series(1, {})", megabytes * 1000);
    client.read_and_rest(&large, Duration::from_secs(1))?;
    let peak = process::memory(process)?.peak;

    let connect = |_| go_on().and_then(|()| Client::connect(way));
    let crowd = (0..IDLE).map(connect).collect::<Result<Vec<_>, _>>()?;
    settle();
    let crowded = process::memory(process)?.now;
    drop(crowd);
    Ok(Resident { idle, peak, crowded })
}

/// From the start of `pgate connect -- psql` to the first row on psql's output, and
/// the same of psql alone, in milliseconds (medians).
pub(crate) fn first_row(stand: &Stand, direct: &Way, times: u32) -> anyhow::Result<(f64, f64)> {
    let query = ["psql", "--no-psqlrc", "-qAt", "-c", "SELECT balance FROM bench.hot WHERE id = 7"];
    let mut through = Vec::new();
    let mut alone = Vec::new();
    for _ in 0..times {
        go_on()?;
        let mut connect = stand.connect("bench", &["--"])?;
        connect.args(query);
        through.push(until_output(connect)?);

        let mut psql = std::process::Command::new(query[0]);
        psql.args(&query[1..])
            .env("PGHOST", &direct.host)
            .env("PGPORT", direct.port.to_string())
            .env("PGUSER", &direct.user)
            .env("PGPASSWORD", &direct.password)
            .env("PGDATABASE", &direct.database);
        alone.push(until_output(psql)?);
    }
    let none = || anyhow::anyhow!("nothing was measured");
    Ok((median(&through).ok_or_else(none)?, median(&alone).ok_or_else(none)?))
}

fn until_output(mut command: std::process::Command) -> anyhow::Result<f64> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn()?;
    let mut output = child.stdout.take().expect("standard output was asked to be a pipe");
    let read = output.read(&mut [0; 64])?;
    let took = start.elapsed();
    let ended = child.wait_with_output()?;
    if read == 0 {
        bail!("no row came: {}", String::from_utf8_lossy(&ended.stderr).trim());
    }
    Ok(took.as_secs_f64() * 1e3)
}

/// The processor time of recording one statement and its outcome, in microseconds:
/// a point select's records as a real session has written them, into a spool on disk.
pub(crate) fn recording(stand: &Stand) -> anyhow::Result<f64> {
    let mut session = stand.connect("bench", &["--", "sh", "-c"])?;
    session.arg(
        "psql --no-psqlrc -qAt -c 'SELECT balance FROM bench.hot WHERE id = 7' >/dev/null && \
         echo $PGATE_SESSION",
    );
    let session = session.output()?;
    let session = String::from_utf8_lossy(&session.stdout).trim().to_owned();
    let log = stand.own_pgate(&["log", "export", &session])?.output()?;
    let (mut start, mut statement, mut completion) = (None, None, None);
    for line in Lines::new(log.stdout.as_slice()) {
        let record = line?.decode()?.record;
        match record {
            Record::Start(_) => start = Some(record),
            Record::Statement(_) => statement = Some(record),
            Record::Completion(_) => completion = Some(record),
            _ => {}
        }
    }
    let (Some(Record::Start(start)), Some(statement), Some(completion)) =
        (start, statement, completion)
    else {
        bail!("the log of session {session} lacks a record");
    };
    let folder = tempfile::tempdir()?;
    let destination =
        Destination { server: "http://127.0.0.1:1".parse()?, upload_token: "none".into() };
    let key = SigningKey::from_seed(&[7; 32]);
    let spool = Spool::create(folder.path(), &destination, *start, key, Timestamp::now())?;
    let process = std::process::id();
    let used = process::cpu(process)?;
    for _ in 0..RECORDED {
        spool.append(&statement, Timestamp::now())?;
        spool.append_behind(&completion, Timestamp::now())?;
    }
    Ok((process::cpu(process)? - used).as_secs_f64() * 1e6 / f64::from(RECORDED))
}
