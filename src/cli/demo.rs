//! `pgate demo`.

use std::{
    io::{self, BufRead as _, BufReader, IsTerminal as _},
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
};

use super::{
    context::Context,
    failure::{Exit, Failure},
};
use crate::demo::{
    cluster::ClusterError,
    stage::{self, Stage, StageError},
    walk::{self, STEPS, Seen, Step, Surprise},
};

/// No step takes this long.
const PATIENCE: Duration = Duration::from_secs(60);

/// See the whole product work, on a real PostgreSQL, on this machine only.
///
/// Starts a throwaway PostgreSQL with a sample shop, a development identity provider
/// and a control plane, then walks through logging in, asking for access, masked reads,
/// refusals, an approval and the evidence, with the real commands. Leaves no trace.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
On a terminal it waits for Enter after every step; without one it runs through.
PostgreSQL's server programs are found by themselves, or in PGATE_PG_BIN.

Examples:
  pgate demo
  pgate demo --stay
  PGATE_PG_BIN=/opt/pg16/bin pgate demo")]
pub(crate) struct Args {
    /// Start everything, say what to type in another terminal, and stay until Ctrl-C
    #[arg(long)]
    stay: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupted = pin!(async move {
        tokio::select! {
            _ = terminate.recv() => Exit::Other(143),
            _ = tokio::signal::ctrl_c() => Exit::Other(130),
        }
    });
    let stage = tokio::select! {
        stage = start(context) => stage?,
        exit = &mut interrupted => return Ok(exit.into()),
    };
    let outcome = if args.stay {
        invite(&stage, context)?;
        interrupted.await;
        Ok(ExitCode::SUCCESS)
    } else {
        tokio::select! {
            outcome = walk_through(&stage, context) => outcome.map(|()| ExitCode::SUCCESS),
            exit = &mut interrupted => Ok(exit.into()),
        }
    };
    context.output.note("\nStopping, and removing every trace.");
    // Waits for processes to end, which is no work for a runtime's thread.
    tokio::task::spawn_blocking(move || drop(stage)).await.map_err(io::Error::other)?;
    outcome
}

async fn start(context: &Context) -> Result<Stage, Failure> {
    let _spinner = context.output.spinner(
        "starting a throwaway PostgreSQL with a sample shop, an identity provider and a control \
         plane",
    );
    let executable = std::env::current_exe()?;
    let stage = Stage::start(&executable, stage::Options::default()).await?;
    // Asked for now, so that a missing psql is said before the walk begins.
    stage.cluster().binaries().psql().map_err(StageError::from)?;
    Ok(stage)
}

async fn walk_through(stage: &Stage, context: &Context) -> Result<(), Failure> {
    let output = &context.output;
    let waits = context.may_ask() && output.is_terminal();
    output.line(format!(
        "A shop's database (12,000 customers), an identity provider and a control plane run on \
         this machine, in {}.",
        stage.folder().display()
    ));
    let mut seen = Seen::default();
    for (at, step) in STEPS.iter().enumerate() {
        let number = at + 1;
        let title = console::style(format!("{number}. {}", step.title)).bold();
        output.line(format!("\n{title}"));
        if !step.words.is_empty() {
            output.line(console::style(folded(step.words)).dim().to_string());
        }
        take(stage, context, step, &mut seen).await.map_err(|trouble| {
            let message = format!("step {number} of the demo, \"{}\": {trouble}", step.title);
            Failure::new(Exit::Failure, "demo", message).hint(
                "this is a fault of pgate or of this machine's set-up; `pgate demo --stay` keeps \
                 everything running to look at",
            )
        })?;
        if waits {
            pause(context, number == STEPS.len()).await?;
        }
    }
    output.line("\nEvery step did what it should. `pgate demo --stay` lets you try it yourself.");
    Ok(())
}

/// What can go wrong in a step.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Surprise(#[from] Surprise),
    #[error("it did not end within {} s", PATIENCE.as_secs())]
    Endless,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Types one step's command, shows what it says while it says it, and holds it
/// to its outcome.
async fn take(
    stage: &Stage,
    context: &Context,
    step: &Step,
    seen: &mut Seen,
) -> Result<(), Trouble> {
    let arguments = step.arguments.iter().map(|text| seen.fill(text)).collect::<Vec<_>>();
    let prompt = console::style(format!("{}$", step.person)).cyan();
    context.output.line(format!("{prompt} {}", walk::typed(&arguments)));

    // One pipe for both streams keeps their lines in the order in which they came.
    let (reader, writer) = io::pipe()?;
    let mut command = stage.pgate(step.person)?;
    command.args(&arguments).stdin(std::process::Stdio::null());
    command.stdout(writer.try_clone()?).stderr(writer);
    let mut command = tokio::process::Command::from(command);
    let mut child = command.kill_on_drop(true).spawn()?;
    drop(command);

    let (sender, mut lines) = mpsc::unbounded_channel();
    let reading = tokio::task::spawn_blocking(move || {
        for line in BufReader::new(reader).split(b'\n') {
            let Ok(line) = line else { break };
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    });
    let mut said = String::new();
    let show = async {
        let mut meanwhile = step.meanwhile;
        while let Some(line) = lines.recv().await {
            context.output.line(&line);
            said.push_str(&line);
            said.push('\n');
            // It waits for a reviewer, and has said how to answer.
            if line.contains("pgate approve ho_") {
                seen.note(&said);
                for answer in std::mem::take(&mut meanwhile) {
                    Box::pin(take(stage, context, answer, seen)).await?;
                }
            }
        }
        Ok::<_, Trouble>(child.wait().await?)
    };
    let status = tokio::select! {
        status = tokio::time::timeout(PATIENCE, show) => status.map_err(|_| Trouble::Endless)??,
        never = confirm_logins(stage, step) => match never {},
    };
    drop(reading);
    seen.note(&said);
    Ok(step.outcome.check(status.code(), &said, seen)?)
}

/// Plays the person at the verification page: whoever waits there is the person
/// whose step this is.
async fn confirm_logins(stage: &Stage, step: &Step) -> std::convert::Infallible {
    let email = format!("{}@example.com", step.person);
    loop {
        for code in stage.issuer().waiting() {
            if let Err(error) = stage.issuer().approve(&code, &email) {
                tracing::warn!(%error, "a login of the demo can't be confirmed");
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Waits for Enter; the end of input counts as one.
async fn pause(context: &Context, last: bool) -> Result<(), Failure> {
    let what = if last { "to finish" } else { "for the next step" };
    context.output.note(console::style(format!("— Enter {what} —")).dim().to_string());
    let read = || io::stdin().lock().read_line(&mut String::new());
    tokio::task::spawn_blocking(read).await.map_err(io::Error::other)??;
    Ok(())
}

/// Says what to type elsewhere.
fn invite(stage: &Stage, context: &Context) -> Result<(), Failure> {
    let (ana, dan) = (stage.shell_script("ana")?, stage.shell_script("dan")?);
    let output = &context.output;
    output.line(format!(
        "\
Everything runs, on this machine only. In another terminal, be Ana (engineering):

  . {ana}
  pgate login                       # pick ana@example.com
  pgate targets
  pgate request prod-db --role readonly --reason \"having a look\"
  pgate connect prod-db -- psql
  pgate sessions

In a third one, be Dan (dba), who approves what Ana asks for:

  . {dan}
  pgate login                       # pick dan@example.com
  pgate inbox

Control plane  {url}   (export PGATE_SERVER={url}; its files are in {folder})
Issuer         {issuer}
Policy         {policy}   (edit it: the control plane reads it again)

Ctrl-C stops it all and removes every trace.",
        ana = ana.display(),
        dan = dan.display(),
        url = stage.url(),
        folder = stage.server_folder().display(),
        issuer = stage.issuer().url(),
        policy = stage.server_folder().join("policy").display(),
    ));
    Ok(())
}

/// Breaks a sentence into lines that fit a terminal.
fn folded(text: &str) -> String {
    let width = if io::stdout().is_terminal() {
        usize::from(console::Term::stdout().size().1).clamp(40, 100)
    } else {
        80
    };
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("there is one from the start");
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines.join("\n")
}

impl From<StageError> for Failure {
    fn from(error: StageError) -> Self {
        let code = match &error {
            StageError::Cluster(ClusterError::NoPsql { .. }) => "no_psql",
            StageError::Cluster(ClusterError::NoPostgres { .. }) => "no_postgres",
            _ => "demo",
        };
        Failure::new(Exit::Failure, code, error.to_string())
    }
}
