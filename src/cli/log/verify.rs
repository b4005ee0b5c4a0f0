//! `pgate log verify`.

use std::process::ExitCode;

use jiff::Timestamp;
use serde::Serialize;

use super::{Source, keys};
use crate::{
    cli::{
        context::Context,
        failure::{Exit, Failure},
        output::escaped,
    },
    journal::{self, Report},
};

/// Check that a session log is as pgate wrote it and as the control plane received it.
///
/// Says exactly what is wrong and at which line: changed, cut, moved, unsigned, not
/// what was received. Exits with 1 where something is. With --key FILE no network is
/// used; without --key the server's keys are fetched, or those fetched last.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate log verify se_3f8k2m9qv5xw7c1d
  pgate log verify session.jsonl --key server.pub
  pgate log export se_3f8k2m9qv5xw7c1d | pgate log verify -
  curl -s https://pgate.example.com/.well-known/pgate/keys > server.pub")]
pub(crate) struct Args {
    /// A log file, - for stdin, or a session id (the control plane's copy)
    #[arg(value_name = "FILE|SESSION")]
    log: Source,

    /// The control plane's public keys: a file with a JSON Web Key or a set of them,
    /// or the server's URL
    #[arg(long, value_name = "FILE|URL")]
    key: Vec<String>,
}

#[derive(Serialize)]
struct Answer<'a> {
    intact: bool,
    #[serde(flatten)]
    report: &'a Report,
    messages: Vec<String>,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let keys = keys::load(&args.key, context).await?;
    let log = args.log.open(context).await?;
    let report = tokio::task::spawn_blocking(move || journal::verify(log, &keys))
        .await
        .map_err(anyhow::Error::from)??;
    if context.output.is_json() {
        let messages = report.notices.iter().map(ToString::to_string).collect();
        context.output.json(&Answer { intact: report.is_intact(), report: &report, messages })?;
    } else {
        show(&report, context);
    }
    if report.is_intact() {
        return Ok(ExitCode::SUCCESS);
    }
    let count = report.problems.len() as u64 + report.further_problems;
    let what = if count == 1 { "1 problem".into() } else { format!("{count} problems") };
    Err(Failure::new(Exit::Failure, "log_not_intact", format!("the log doesn't verify: {what}")))
}

fn show(report: &Report, context: &Context) {
    let mut fields = Vec::new();
    if let Some(session) = &report.session {
        fields.push(("session", session.to_string()));
    }
    if let Some(grant) = &report.grant {
        fields.push(("who", grant.identity.to_string()));
        fields.push(("access", format!("{} as {}, {}", grant.target, grant.role, grant.grant)));
        fields.push(("reason", grant.reason.clone()));
        if !grant.approved_by.is_empty() {
            let names = grant.approved_by.iter().map(ToString::to_string).collect::<Vec<_>>();
            fields.push(("approved", names.join(", ")));
        }
    }
    if let Some(at) = report.began_at {
        fields.push(("began", second(at)));
    }
    fields.push(("ended", ended(report)));
    let Report { lines, statements, denied, checkpoints, .. } = report;
    let reviewed = match (report.held, report.approved) {
        (0, _) => String::new(),
        (held, approved) => format!(", {held} held ({approved} approved)"),
    };
    fields.push((
        "holds",
        format!("{lines} lines, {statements} statements, {denied} denied{reviewed}"),
    ));
    fields.push(("signed", format!("{checkpoints} checkpoints by the session's key")));
    let received = report.received.map_or("no receipt in this log".into(), |received| {
        format!("{} lines by the control plane, {}", received.lines, second(received.at))
    });
    fields.push(("received", received));
    context.output.fields(&fields);
    let output = &context.output;
    for notice in &report.notices {
        output.line(format!("{} {notice}", console::style("note:").yellow()));
    }
    for problem in &report.problems {
        let word = console::style("problem:").red().bold();
        output.line(format!("{word} {}", escaped(&problem.to_string())));
    }
    if report.further_problems > 0 {
        output.line(format!("… and {} problems more", report.further_problems));
    }
    if report.is_intact() {
        let word = console::style("ok:").green().bold();
        let closed = if report.closed.is_some() { "" } else { ", and was not closed" };
        output.line(format!("{word} the log is as pgate wrote it{closed}"));
    }
}

fn ended(report: &Report) -> String {
    match (&report.closed, report.last_at) {
        (Some(closed), _) => {
            let reason = serde_json::to_value(closed.reason).unwrap_or_default();
            let reason = reason.as_str().unwrap_or_default();
            let detail = if closed.detail.is_empty() {
                String::new()
            } else {
                format!(": {}", closed.detail)
            };
            format!("{} ({reason}{detail})", second(closed.at))
        }
        (None, Some(at)) => format!("not closed; last line {}", second(at)),
        (None, None) => "not closed".into(),
    }
}

/// Evidence is told in UTC, the same everywhere.
fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}
