//! `pgate connect`: a session under a grant, its proxy, and the command that uses it.

mod child;
mod choice;
mod session;

use std::{ffi::OsString, io::IsTerminal as _, path::PathBuf, process::ExitCode, time::Duration};

use jiff::Timestamp;
use secrecy::ExposeSecret as _;
use serde_json::json;

use self::{
    child::{CommandError, Endpoint},
    choice::Choice,
    session::{Finished, Session},
};
use super::{
    context::Context,
    failure::{Exit, Failure},
    output::{escaped, moment},
    request,
};
use crate::{
    api::{Client, Grant, GrantId, GrantRequest},
    grant::State,
    journal::EndReason,
    proxy::Ended,
};

/// How long a session that is being opened may still take after Ctrl-C.
const OPENING: Duration = Duration::from_secs(10);

/// Run a command, or open a port, with a database session under a grant
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate connect prod-db -- psql
  pgate connect prod-db --role readonly --reason \"INC-4312\" -- psql -c 'select 1'
  pgate connect prod-db -- pg_dump --host={host} --port={port} shop
  pgate connect prod-db --port 15432
  pgate connect prod-db --output json

CMD finds PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, DATABASE_URL and
PGATE_SESSION in its environment; {host} {port} {user} {database} {url} in its
arguments are replaced. The password lives as long as the session and works on
this machine only.

Exit codes with CMD: CMD's own, 128+N for signal N, 125 when pgate failed, 126
when CMD can't be run, 127 when it isn't found. Without CMD: 0, 1 failure,
2 usage, 3 not logged in, 4 refused, 5 still pending, 6 server out of reach.")]
pub(crate) struct Args {
    /// The target (see `pgate targets`)
    #[arg(value_name = "TARGET")]
    target: Option<String>,

    /// The role; needed where no active grant says it
    #[arg(long, value_name = "ROLE")]
    role: Option<String>,

    /// Why, for the reviewer and the log; needed where a grant must be requested
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,

    /// How long a newly requested grant lasts (90s, 30m, 1h30m)
    #[arg(long, value_name = "DURATION", value_parser = super::lifetime::lifetime)]
    ttl: Option<Duration>,

    /// Use this grant
    #[arg(long, value_name = "ID", conflicts_with_all = ["role", "reason", "ttl"])]
    grant: Option<GrantId>,

    /// Listen on this TCP port of 127.0.0.1; CMD is then given TCP, not the socket
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    port: Option<u16>,

    /// Make the socket's folder inside this one
    #[arg(long, value_name = "DIR")]
    socket_dir: Option<PathBuf>,

    /// The command and its arguments
    #[arg(last = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Runs `pgate connect`.
pub(crate) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let with_command = !args.command.is_empty();
    let result = connect(args, context).await;
    match result {
        // A shell script must be able to tell pgate's failures from the command's.
        Err(failure) if with_command && !matches!(failure.exit(), Exit::Other(_)) => {
            Err(failure.exiting(Exit::Other(125)))
        }
        result => result,
    }
}

async fn connect(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let target = context.target(args.target.clone())?;
    if let Some(program) = args.command.first() {
        child::check(program, std::env::var_os("PATH").as_ref())?;
    }
    let client = context.client()?;
    let mut interrupted = std::pin::pin!(interruption());
    let grant = tokio::select! {
        grant = async {
            session::recover(context).await;
            active_grant(&args, &target, &client, context).await
        } => grant?,
        () = &mut interrupted => return Err(interrupted_early()),
    };
    let mut opening = std::pin::pin!(Session::open(grant, &args, client, context));
    let session = tokio::select! {
        session = &mut opening => session?,
        // Half-open it would leave its database role behind: it is opened and closed.
        () = &mut interrupted => {
            if let Ok(Ok(session)) = tokio::time::timeout(OPENING, opening).await {
                session.finish(EndReason::Closed, "interrupted", context).await;
            }
            return Err(interrupted_early());
        }
    };
    if args.command.is_empty() {
        serve_until_told(session, interrupted, context).await
    } else {
        run_command(session, &args, context).await
    }
}

/// Runs the command and ends the session after it.
async fn run_command(
    mut session: Session,
    args: &Args,
    context: &Context,
) -> Result<ExitCode, Failure> {
    let endpoint = session.endpoint(args.port.is_some());
    let child = match child::start(&args.command, &endpoint) {
        Ok(child) => child,
        Err(error) => {
            session.finish(EndReason::Closed, "the command could not be run", context).await;
            return Err(error.into());
        }
    };
    let waiting = child::wait(child, std::io::stdin().is_terminal());
    let mut waiting = std::pin::pin!(waiting);
    let mut over = false;
    let code = loop {
        tokio::select! {
            code = &mut waiting => break code,
            // The command learns it from its connections; it may have more to do.
            ended = session.ended(), if !over => {
                context.output.warn(session::explained(&ended));
                over = true;
            }
        }
    };
    session.finish(EndReason::Closed, "", context).await;
    Ok(ExitCode::from(code?))
}

/// Prints how to connect, and waits for Ctrl-C or the grant's end.
async fn serve_until_told(
    mut session: Session,
    interrupted: impl Future<Output = ()>,
    context: &Context,
) -> Result<ExitCode, Failure> {
    announce(&session, context)?;
    tokio::select! {
        () = interrupted => {}
        ended = session.ended() => context.output.warn(session::explained(&ended)),
    }
    let Finished { ended: Ended { reason, detail }, uploaded } =
        session.finish(EndReason::Closed, "", context).await;
    if context.output.is_json() {
        context.output.json(&json!({
            "event": "closed", "reason": reason, "detail": detail, "log_uploaded": uploaded,
        }))?;
    }
    match reason {
        EndReason::Closed | EndReason::Expired => Ok(ExitCode::SUCCESS),
        EndReason::Revoked => Err(Failure::refused("revoked", detail)),
        EndReason::Tripwire | EndReason::Failed => {
            Err(Failure::new(Exit::Failure, "session_failed", detail))
        }
    }
}

fn announce(session: &Session, context: &Context) -> Result<(), Failure> {
    let tcp = session.endpoint(true);
    let socket = session.endpoint(false).host;
    if context.output.is_json() {
        return context.output.json(&json!({
            "event": "ready",
            "session": tcp.session,
            "host": tcp.host,
            "port": tcp.port,
            "user": tcp.user,
            "password": tcp.password.expose_secret(),
            "database": tcp.database,
            "url": tcp.url.expose_secret(),
            "socket": socket,
            "expires_at": session.expires_at(),
        }));
    }
    let Endpoint { user, database, port, .. } = &tcp;
    context.output.line(tcp.url.expose_secret());
    context.output.note(format!(
        "session {} as {} until {}\n\
         on this machine without a password: psql -h {} -p {port} -U {user} {database}\n\
         Ctrl-C ends the session",
        tcp.session,
        escaped(session.role()),
        moment(session.expires_at(), Timestamp::now()),
        escaped(&socket),
    ));
    Ok(())
}

/// An active grant: the one that was named, one that fits, or a new one.
async fn active_grant(
    args: &Args,
    target: &str,
    client: &Client,
    context: &Context,
) -> Result<Grant, Failure> {
    if let Some(id) = &args.grant {
        let grant = client.grant(id, None).await?;
        if grant.target != target {
            return Err(Failure::usage(format!(
                "grant {id} is for {}, not {target}",
                grant.target
            )));
        }
        return until_active(grant, client, context).await;
    }
    let set = context.settings.role.as_ref().map(|role| role.value.as_str());
    let role = args.role.as_deref().or(set);
    let grants = client.grants().await?.grants;
    match choice::choose(&grants, target, role) {
        Choice::Use(grant) => Ok(*grant),
        Choice::WaitFor(grant) => until_active(*grant, client, context).await,
        Choice::Ambiguous(roles) => Err(Failure::usage(format!(
            "you have active grants for several roles on {target}: {}",
            roles.join(", ")
        ))
        .hint("name one with --role")),
        Choice::Ask => {
            let (Some(role), Some(reason)) = (role, &args.reason) else {
                return Err(no_grant(role, target));
            };
            let request = GrantRequest {
                target: target.to_owned(),
                role: role.to_owned(),
                reason: request::reason(reason)?,
                ttl_seconds: args.ttl.map(|ttl| ttl.as_secs()),
            };
            until_active(client.request_grant(&request).await?, client, context).await
        }
    }
}

/// The grant once it is active, or why it never will be.
async fn until_active(grant: Grant, client: &Client, context: &Context) -> Result<Grant, Failure> {
    let grant = match grant.state {
        State::Pending { .. } => request::decided(client, context, grant).await?,
        _ => grant,
    };
    match request::refusal(&grant) {
        Some(failure) => Err(failure),
        None => Ok(grant),
    }
}

fn no_grant(role: Option<&str>, target: &str) -> Failure {
    let role = role.unwrap_or("ROLE");
    Failure::new(Exit::Usage, "no_grant", format!("you have no active grant for {target}")).hint(
        format!(
            "add --role {role} --reason \"why\", or ask first: \
             pgate request {target} --role {role} --reason \"why\" (`pgate targets` shows roles)"
        ),
    )
}

fn interrupted_early() -> Failure {
    Failure::new(Exit::Failure, "interrupted", "interrupted before the session began")
        .hint("a request that still waits stays in `pgate grants`; take it back with `pgate grants revoke`")
}

/// Completes on Ctrl-C or when pgate is told to end.
async fn interruption() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hang_up)) = (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
        signal(SignalKind::hangup()),
    ) else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        _ = hang_up.recv() => {}
    }
}

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        let failure = Failure::new(Exit::Other(error.exit_code()), "command", error.to_string());
        match error {
            CommandError::NotFound(_) => failure.hint("check its name and your PATH"),
            CommandError::CannotRun { .. } => failure,
        }
    }
}
