//! The benchmark: what pgate costs, beside a direct connection, a bare forwarder and
//! pgbouncer, on one machine and in one run.
//!
//! Sets everything up by itself (a throwaway PostgreSQL, a control plane, sessions
//! with masks in force and a signed log), goes through the works in interleaved
//! rounds, prints Markdown tables and removes all of it. Runs on Linux: it reads
//! processor time and memory from /proc.

mod client;
#[cfg(target_os = "linux")]
mod forwarder;
mod moments;
mod process;
mod report;
mod stand;
mod works;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail};
use clap::Parser;

use self::{
    report::Results,
    stand::{Stand, Way},
    works::Ways,
};

/// Measure pgate beside a direct connection, a bare forwarder and pgbouncer.
#[derive(Debug, Parser)]
#[command(name = "wire")]
struct Args {
    /// About two minutes instead of ten: fewer and shorter rounds
    #[arg(long)]
    quick: bool,
    /// How often every work is done by every way
    #[arg(long)]
    rounds: Option<u32>,
    /// How long one way's turn at one work is counted
    #[arg(long)]
    seconds: Option<u32>,
    /// Only the works whose names contain this; leaves out what is measured once
    #[arg(long, value_name = "TEXT")]
    only: Option<String>,
    /// Measure this pgate instead of the one that was built with the benchmark
    #[arg(long, value_name = "PATH")]
    pgate: Option<PathBuf>,
    /// Start everything, print the ways, and stay until Ctrl-C (for a profiler)
    #[arg(long)]
    stay: bool,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

#[derive(Debug, clap::Subcommand)]
enum Part {
    /// Be the forwarder
    #[command(hide = true)]
    Forward { upstream: String },
}

/// Somebody wants this to end.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.part {
        Some(Part::Forward { upstream }) => forward(upstream),
        None => measure(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(target_os = "linux")]
fn forward(upstream: &str) -> anyhow::Result<()> {
    Ok(forwarder::run(upstream)?)
}

#[cfg(not(target_os = "linux"))]
fn forward(_upstream: &str) -> anyhow::Result<()> {
    bail!("the benchmark runs on Linux only")
}

fn measure(args: &Args) -> anyhow::Result<()> {
    if cfg!(not(target_os = "linux")) {
        bail!("the benchmark runs on Linux only: it reads /proc");
    }
    let begun = Instant::now();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let (rounds, seconds) = if args.quick { (2, 1) } else { (5, 2) };
    let (rounds, seconds) = (args.rounds.unwrap_or(rounds), args.seconds.unwrap_or(seconds));

    eprintln!("starting PostgreSQL and a control plane");
    let built = Path::new(env!("CARGO_BIN_EXE_pgate"));
    let pgate = args.pgate.as_deref().unwrap_or(built);
    let pgate = pgate.canonicalize().with_context(|| pgate.display().to_string())?;
    let mut stand = Stand::start(&pgate)?;
    listen_for_the_end(&stand);
    if !stand::runs(stand.pgbench().as_os_str()) {
        bail!("pgbench is missing: install it (sudo apt-get install postgresql-contrib)");
    }
    let ways = ways(&mut stand)?;
    if args.stay {
        return stay(&ways);
    }
    let mut results = Results::default();
    let works = works::works(&ways);
    let wanted = |name: &str| args.only.as_ref().is_none_or(|only| name.contains(only.as_str()));
    for round in 0..rounds {
        for work in works.iter().filter(|work| wanted(work.name)) {
            eprintln!("round {} of {rounds}: {}", round + 1, work.name);
            // Each round begins with another way, so that none is always the first.
            let (front, back) = work.ways.split_at(round as usize % work.ways.len());
            for way in back.iter().chain(front) {
                go_on()?;
                let sample = work.turn(&stand, way, seconds)?;
                results.add(work.name, work.unit, way.name, sample);
            }
        }
    }
    if args.only.is_none() {
        once(args, &mut stand, &ways, &mut results)?;
    }

    println!("{}\n", setting(args, &stand, rounds, seconds, &load, begun.elapsed()));
    println!("{}\n{}\n{}", results.figures(), results.moments(), results.goals());
    eprintln!("removing everything");
    Ok(())
}

/// Starts what is in between.
fn ways(stand: &mut Stand) -> anyhow::Result<Ways> {
    Ok(Ways {
        direct: stand.direct(),
        forwarder: stand.forwarder()?,
        pgbouncer: stand.pgbouncer()?,
        pgate: stand.pgate("bench")?,
        detector: stand.pgate("detector")?.0,
        unmasked: stand.pgate("unmasked")?.0,
    })
}

/// Memory, the time to the first row, and the cost of a record.
fn once(args: &Args, stand: &mut Stand, ways: &Ways, results: &mut Results) -> anyhow::Result<()> {
    let (megabytes, times) = if args.quick { (500, 5) } else { (4000, 15) };
    let mut fresh = Vec::new();
    if let Some((tcp, _)) = stand.pgbouncer()? {
        fresh.push(tcp);
    }
    fresh.push(stand.pgate("bench")?.0);
    for way in fresh {
        go_on()?;
        eprintln!("memory: {}", way.name);
        results.resident.push((way.name, moments::resident(&way, megabytes)?));
        stand.end(&way);
    }
    go_on()?;
    eprintln!("the time to the first row, and recording");
    results.first_row = Some(moments::first_row(stand, &ways.direct, times)?);
    results.recording = Some(moments::recording(stand)?);
    Ok(())
}

/// What the figures were measured with.
fn setting(
    args: &Args,
    stand: &Stand,
    rounds: u32,
    seconds: u32,
    load: &str,
    took: Duration,
) -> String {
    let first_line = |command: &mut Command| {
        let output = command.output().ok()?;
        Some(String::from_utf8_lossy(&output.stdout).lines().next()?.trim().to_owned())
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let system = first_line(Command::new("uname").arg("-sr")).unwrap_or_default();
    let pgbench = first_line(Command::new(stand.pgbench()).arg("--version")).unwrap_or_default();
    let kind = if args.quick { ", --quick" } else { "" };
    format!(
        "{cores} processors ({system}), load before it {}; {pgbench}; {rounds} rounds of {seconds} s a \
         turn{kind}; {} s in all.",
        load.split(' ').next().unwrap_or("unknown"),
        took.as_secs()
    )
}

/// Prints the ways, for other tools to use.
fn stay(ways: &Ways) -> anyhow::Result<()> {
    let print = |way: &Way, name: &str| {
        let Way { host, port, user, password, database, process, .. } = way;
        println!(
            "{name}: PGHOST={host} PGPORT={port} PGUSER={user} PGPASSWORD='{password}' \
             PGDATABASE={database} process={}",
            process.map_or_else(|| "none".to_owned(), |process| process.to_string())
        );
    };
    let pgbouncer = ways.pgbouncer.iter().flat_map(|(tcp, unix)| [tcp, unix]);
    let all = [&ways.direct, &ways.forwarder].into_iter().chain(pgbouncer);
    for way in all.chain([&ways.pgate.0, &ways.pgate.1]) {
        print(way, way.name);
    }
    print(&ways.detector, works::DETECTOR);
    print(&ways.unmasked, works::BY_HAND_THROUGH);
    while go_on().is_ok() {
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// From now on Ctrl-C, and being told to end, lead to a tidy end.
fn listen_for_the_end(stand: &Stand) {
    stand.spawn(async {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut interrupt), Ok(mut terminate)) =
            (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        INTERRUPTED.store(true, Ordering::Relaxed);
    });
}

/// An error once somebody wants this to end.
fn go_on() -> anyhow::Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        return Err(anyhow::anyhow!("interrupted")).context("the benchmark didn't finish");
    }
    Ok(())
}
