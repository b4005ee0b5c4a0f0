//! `pgate connect`: a session under a grant, its proxy, and the command that uses it.

mod child;
mod choice;
mod session;

use std::{ffi::OsString, io, path::PathBuf, process::ExitCode, time::Duration};

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
    interruption::Interruption,
    output::{self, escaped, moment},
    request,
};
use crate::{
    api::{Client, Grant, GrantId, GrantRequest},
    grant::State,
    journal::{EndReason, HoldRecord},
    proxy::{Ended, HoldNews},
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
    let mut interruption = Interruption::listen()?;
    let target = context.target(args.target.clone())?;
    if let Some(program) = args.command.first() {
        child::check(program, std::env::var_os("PATH").as_ref())?;
    }
    let client = context.client()?;
    let grant = tokio::select! {
        grant = async {
            session::recover(context).await;
            fitting_grant(&args, &target, &client, context).await
        } => grant?,
        _ = interruption.heard() => return Err(interrupted_early()),
    };
    let grant = until_active(grant, &client, context, &mut interruption).await?;
    let mut opening = std::pin::pin!(Session::open(grant, &args, client, context));
    let session = tokio::select! {
        session = &mut opening => session?,
        // Half-open it would leave its database role behind: it is opened and closed.
        _ = interruption.heard() => {
            if let Ok(Ok(session)) = tokio::time::timeout(OPENING, opening).await {
                session.finish(EndReason::Closed, "interrupted", context).await;
            }
            return Err(interrupted_early());
        }
    };
    if session.records_results() {
        // Who works here is to know what others will read.
        context.output.note("what statements return is recorded in this session's log");
    }
    if args.command.is_empty() {
        serve_until_told(session, interruption, context).await
    } else {
        run_command(session, &args, interruption, context).await
    }
}

/// Runs the command and ends the session after it.
async fn run_command(
    mut session: Session,
    args: &Args,
    mut interruption: Interruption,
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
    let mut waiting = std::pin::pin!(child::wait(child, &mut interruption));
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
    let Finished { ended, .. } = session.finish(EndReason::Closed, "", context).await;
    // The command may have been faster than its connections' ends.
    if !over && ended.reason != EndReason::Closed {
        context.output.warn(session::explained(&ended));
    }
    Ok(ExitCode::from(code?))
}

/// Prints how to connect, and waits for Ctrl-C or the grant's end.
async fn serve_until_told(
    mut session: Session,
    mut interruption: Interruption,
    context: &Context,
) -> Result<ExitCode, Failure> {
    // From before anybody can connect.
    let mut news = session.news();
    if let Err(error) = announce(&session, context) {
        session.finish(EndReason::Closed, "nobody took the connection string", context).await;
        return match error.kind() {
            io::ErrorKind::BrokenPipe => Ok(ExitCode::from(output::READER_GONE)),
            _ => Err(error.into()),
        };
    }
    loop {
        tokio::select! {
            _ = interruption.heard() => break,
            ended = session.ended() => {
                context.output.warn(session::explained(&ended));
                break;
            }
            // A listener that was too slow goes on with what is newest.
            Ok(hold) = news.recv() => tell(&hold, context),
        }
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

/// A held statement's step, as an event; people read of it in their client.
fn tell(news: &HoldNews, context: &Context) {
    if !context.output.is_json() {
        return;
    }
    let HoldRecord { connection, statement, hold, event } = &news.record;
    let mut told = json!({
        "event": "hold", "hold": hold, "connection": connection, "statement": statement,
        "step": event,
    });
    if let Some(url) = &news.url {
        told["url"] = json!(url);
    }
    // Who took the connection string may have had enough: the session goes on.
    let _ = context.output.try_line(told.to_string());
}

/// Says how to connect, unless nobody is there to read it.
fn announce(session: &Session, context: &Context) -> io::Result<()> {
    let tcp = session.endpoint(true);
    let socket = session.endpoint(false).host;
    if context.output.is_json() {
        let ready = json!({
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
        });
        return context.output.try_line(ready.to_string());
    }
    let Endpoint { user, database, port, .. } = &tcp;
    context.output.try_line(tcp.url.expose_secret())?;
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

/// The grant that was named, one that fits, or a new one; it may still wait for a reviewer.
async fn fitting_grant(
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
        return Ok(grant);
    }
    let set = context.settings.role.as_ref().map(|role| role.value.as_str());
    let role = args.role.as_deref().or(set);
    let grants = client.grants().await?.grants;
    match choice::choose(&grants, target, role) {
        Choice::Use(grant) | Choice::WaitFor(grant) => Ok(*grant),
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
            Ok(client.request_grant(&request).await?)
        }
    }
}

/// The grant once it is active, or why it never will be.
async fn until_active(
    grant: Grant,
    client: &Client,
    context: &Context,
    interruption: &mut Interruption,
) -> Result<Grant, Failure> {
    let grant = match grant.state {
        State::Pending { .. } => request::decided(client, context, grant, interruption).await?,
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

impl From<CommandError> for Failure {
    fn from(error: CommandError) -> Self {
        let failure = Failure::new(Exit::Other(error.exit_code()), "command", error.to_string());
        match error {
            CommandError::NotFound(_) => failure.hint("check its name and your PATH"),
            CommandError::CannotRun { .. } => failure,
        }
    }
}
