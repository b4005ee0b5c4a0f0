//! `pgate log`: verify, export and upload session logs.

mod keys;
mod source;
mod verify;

use std::{
    io::{ErrorKind, Write as _},
    process::ExitCode,
    time::Duration,
};

use clap::Subcommand;
use serde::Serialize;

pub(super) use self::source::Source;
use super::{
    context::Context,
    failure::{Exit, Failure},
    output::escaped,
};
pub(super) use crate::api::escaped_lines;
use crate::{
    api,
    grant::SessionId,
    proxy::uploader::{Recovery, UploadError, recover_all},
};

/// How long one left-behind log may take to go up.
const UPLOAD: Duration = Duration::from_secs(120);

/// Verify, export and upload session logs.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(Debug, Subcommand)]
enum LogCommand {
    Verify(verify::Args),
    Export(ExportArgs),
    Upload(UploadArgs),
}

/// Write a session's log to stdout, as the control plane has it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate log export se_3f8k2m9qv5xw7c1d > session.jsonl
  pgate log export se_3f8k2m9qv5xw7c1d | jq 'select(.type == \"statement\")'")]
struct ExportArgs {
    /// The session (`pgate sessions` lists them)
    #[arg(value_name = "SESSION")]
    session: SessionId,
}

/// Upload the logs that earlier runs could not, or did not live to.
///
/// Every `pgate connect` does this too. A log leaves this machine once the control
/// plane has received all of it.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate log upload
  pgate log upload --output json")]
struct UploadArgs {}

pub(crate) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    match args.command {
        LogCommand::Verify(args) => verify::run(args, context).await,
        LogCommand::Export(args) => export(args, context).await,
        LogCommand::Upload(UploadArgs {}) => upload(context).await,
    }
}

async fn export(args: ExportArgs, context: &Context) -> Result<ExitCode, Failure> {
    let mut stdout = std::io::stdout().lock();
    let copied = context.client()?.copy_log(&args.session, |piece| stdout.write_all(piece)).await;
    match copied {
        Ok(_) => {
            stdout.flush()?;
            Ok(ExitCode::SUCCESS)
        }
        // A reader that has gone away (`… | head`) ends it quietly, as `Output` does.
        Err(api::Error::Sink(why)) if why.kind() == ErrorKind::BrokenPipe => {
            Ok(ExitCode::from(141))
        }
        Err(error) => Err(error.into()),
    }
}

/// What became of the logs that were left behind.
#[derive(Debug, Serialize)]
struct Uploads {
    uploaded: Vec<String>,
    kept: Vec<Kept>,
}

#[derive(Debug, Serialize)]
struct Kept {
    session: Option<String>,
    folder: String,
    reason: String,
}

async fn upload(context: &Context) -> Result<ExitCode, Failure> {
    let spinner = context.output.spinner("Uploading session logs");
    let recoveries = recover_all(&context.folders.spool(), UPLOAD).await;
    drop(spinner);
    let exit = exit_of(&recoveries);
    let uploads = Uploads {
        uploaded: recoveries.iter().filter(|one| one.result.is_ok()).map(name).collect(),
        kept: recoveries.iter().filter_map(kept).collect(),
    };
    if context.output.is_json() {
        context.output.json(&uploads)?;
    } else {
        for session in &uploads.uploaded {
            context.output.line(format!("uploaded  {session}"));
        }
        for kept in &uploads.kept {
            let name = kept.session.as_deref().unwrap_or(&kept.folder);
            context.output.line(format!("kept      {name}: {}", escaped(&kept.reason)));
        }
        if recoveries.is_empty() {
            context.output.line("No session log waits on this machine.");
        }
    }
    match exit {
        None => Ok(ExitCode::SUCCESS),
        Some(exit) => {
            let message = format!("{} session logs could not be uploaded", uploads.kept.len());
            let hint = "they stay on this machine; run `pgate log upload` again later";
            Err(Failure::new(exit, "log_kept", message).hint(hint))
        }
    }
}

fn name(recovery: &Recovery) -> String {
    match &recovery.session {
        Some(session) => session.to_string(),
        None => recovery.folder.display().to_string(),
    }
}

fn kept(recovery: &Recovery) -> Option<Kept> {
    let why = recovery.result.as_ref().err()?;
    Some(Kept {
        session: recovery.session.as_ref().map(ToString::to_string),
        folder: recovery.folder.display().to_string(),
        reason: why.to_string(),
    })
}

/// None where all went up; the server out of reach only where that is all.
fn exit_of(recoveries: &[Recovery]) -> Option<Exit> {
    use api::Error::Unreachable;
    let mut errors = recoveries.iter().filter_map(|one| one.result.as_ref().err()).peekable();
    errors.peek()?;
    let away = |why: &UploadError| {
        matches!(why, UploadError::Server(Unreachable { .. }) | UploadError::TooSlow)
    };
    Some(if errors.all(away) { Exit::Unreachable } else { Exit::Failure })
}
