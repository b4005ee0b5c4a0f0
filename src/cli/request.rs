//! `pgate request`, and waiting for a reviewer, which `pgate connect` does too.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use serde_json::json;

use super::{
    context::Context,
    failure::{Exit, Failure},
    grants::outcome,
    interruption::Interruption,
    lifetime::lifetime,
    output::escaped,
};
use crate::{
    api::{self, Client, Grant, GrantRequest},
    grant::State,
};

/// How long one question to the server may wait there.
const WAIT: Duration = Duration::from_secs(30);
/// How long the server may be out of reach before waiting for it ends.
const OUTAGE: Duration = Duration::from_secs(60);
/// The shortest time between two questions.
const PAUSE: Duration = Duration::from_secs(1);

/// Ask for access to a target.
///
/// Where the policy approves by itself the grant is active at once; otherwise this
/// waits for a reviewer. Ctrl-C ends the waiting, not the request.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate request prod-db --role readonly --reason \"INC-4312 refunds stuck\"
  pgate request prod-db --role writer --reason \"fix order 77\" --ttl 30m
  pgate request prod-db --role writer --reason \"backfill\" --no-wait

Exit codes: 0 active, 4 denied, 5 still pending.")]
pub(crate) struct Args {
    /// The target [env: PGATE_TARGET]
    target: Option<String>,

    /// The role [env: PGATE_ROLE]
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,

    /// Why you need it; reviewers and the session log see this
    #[arg(long, value_name = "TEXT")]
    reason: String,

    /// For how long, such as 30m or 1h; the role's own lifetime by default
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    ttl: Option<Duration>,

    /// Don't wait for a reviewer
    #[arg(long)]
    no_wait: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let set = || context.settings.role.as_ref().map(|role| role.value.clone());
    let role = args.role.or_else(set).ok_or_else(|| {
        Failure::usage("no role is named")
            .hint("pass --role (`pgate targets` lists what you may ask for), or set PGATE_ROLE")
    })?;
    let request = GrantRequest {
        target: context.target(args.target)?,
        role,
        reason: reason(&args.reason)?,
        ttl_seconds: args.ttl.map(|ttl| ttl.as_secs()),
    };
    let client = context.client()?;
    let mut grant = client.request_grant(&request).await?;
    if matches!(grant.state, State::Pending { .. }) && !args.no_wait {
        let mut interruption = Interruption::listen()?;
        grant = decided(&client, context, grant, &mut interruption).await?;
    }
    if let Some(failure) = refusal(&grant) {
        return Err(failure);
    }
    let output = &context.output;
    if output.is_json() {
        output.json(&grant)?;
    } else {
        output.line(outcome(&grant, Timestamp::now()));
    }
    if matches!(grant.state, State::Pending { .. }) {
        output.next(format!("pgate grants show {}", grant.id));
        return Ok(Exit::Pending.into());
    }
    output.next(format!("pgate connect {} -- psql", escaped(&grant.target)));
    Ok(ExitCode::SUCCESS)
}

/// A reason that says something and that the server takes.
pub(crate) fn reason(text: &str) -> Result<String, Failure> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Failure::usage("the reason is empty")
            .hint("say why in a few words, such as --reason \"INC-4312 refunds stuck\""));
    }
    if text.chars().count() > 500 {
        return Err(Failure::usage("the reason is longer than 500 characters"));
    }
    Ok(text.to_owned())
}

/// Waits until a pending grant has been decided, with a spinner on stderr. Being told
/// to stop and a server that stays away leave the request as it is, and say so.
pub(crate) async fn decided(
    client: &Client,
    context: &Context,
    grant: Grant,
    interruption: &mut Interruption,
) -> Result<Grant, Failure> {
    let output = &context.output;
    // A server that can't say where its pages are is asked about the grant all the same.
    let url = client.info().await.ok().map(|info| info.grant_url(&grant.id));
    if output.is_json() {
        let mut event = json!({
            "event": "waiting_approval",
            "grant": grant.id,
            "target": grant.target,
            "role": grant.role,
            "lapses_at": grant.lapses_at,
        });
        if let Some(url) = &url {
            event["url"] = json!(url);
        }
        output.json(&event)?;
    }
    let page = url.map_or(String::new(), |url| format!(", or {}", escaped(&url)));
    let spinner =
        output.spinner(format!("{} waits for a reviewer (`pgate approve {0}`{page})", grant.id));
    let still_pending = |message: String| {
        Failure::new(Exit::Pending, "pending", message)
            .hint(format!("`pgate grants show {}` tells how it stands", grant.id))
    };
    let outcome = tokio::select! {
        outcome = watch(client, &grant) => outcome,
        _ = interruption.heard() => {
            drop(spinner);
            return Err(still_pending(format!("{} is still pending; nothing was taken back", grant.id)));
        }
    };
    drop(spinner);
    match outcome {
        Ok(grant) => Ok(grant),
        Err(error) => {
            let failure = Failure::from(error);
            if failure.exit() == Exit::Unreachable {
                let hint = format!(
                    "{} is still pending; look again with `pgate grants show {0}`",
                    grant.id
                );
                return Err(failure.hint(hint));
            }
            Err(failure)
        }
    }
}

async fn watch(client: &Client, grant: &Grant) -> Result<Grant, api::Error> {
    let mut reached = Instant::now();
    loop {
        let asked = Instant::now();
        match client.grant(&grant.id, Some(WAIT)).await {
            Ok(grant) if matches!(grant.state, State::Pending { .. }) => reached = Instant::now(),
            Ok(grant) => return Ok(grant),
            Err(api::Error::Unreachable { reason, .. }) if reached.elapsed() < OUTAGE => {
                tracing::info!(reason, "the server is out of reach; asking again");
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(PAUSE.saturating_sub(asked.elapsed())).await;
    }
}

/// The failure that an ended grant is, if it has ended.
pub(crate) fn refusal(grant: &Grant) -> Option<Failure> {
    let said = |decision: &crate::grant::Decision| match decision.comment.as_str() {
        "" => String::new(),
        comment => format!(": {}", escaped(comment)),
    };
    let (code, message) = match &grant.state {
        State::Pending { .. } | State::Active { .. } => return None,
        State::Denied { decision } => {
            let by = escaped(&decision.by.to_string());
            ("denied", format!("{} was denied by {by}{}", grant.id, said(decision)))
        }
        State::Revoked { decision } => {
            let by = escaped(&decision.by.to_string());
            ("revoked", format!("{} was revoked by {by}{}", grant.id, said(decision)))
        }
        State::Expired { .. } => ("lapsed", format!("nobody answered {} in time", grant.id)),
    };
    Some(
        Failure::refused(code, message)
            .hint("ask the reviewer, or request again with a clearer reason"),
    )
}
