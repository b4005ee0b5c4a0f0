//! `pgate serve`.

use std::{io::IsTerminal as _, path::PathBuf, process::ExitCode};

use tokio::signal::unix::{SignalKind, signal};

use super::{
    context::Context,
    failure::{Exit, Failure},
};
use crate::server::{
    self, ServeError, Server,
    config::{Config, ConfigError},
};

/// Run the control plane: grants, approvals, policy, credentials, session logs
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The policy folder is read again when its files change; a bad edit is refused,
logged, and the policy before it stays. SIGTERM and Ctrl-C let requests in
flight finish. PGATE_LOG sets what is logged (for example PGATE_LOG=debug).

Examples:
  pgate serve --config /etc/pgate/pgate.toml
  pgate serve --config pgate.toml --check")]
pub(crate) struct Args {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    config: PathBuf,

    /// Only read the configuration and the policy, and say what is wrong with them
    #[arg(long)]
    check: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let config = Config::read(&args.config)?;
    if args.check {
        server::check(&config)?;
        context.output.line("the configuration and the policy can be used");
        return Ok(ExitCode::SUCCESS);
    }
    log_to_stderr();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let server = Server::bind(config).await?;
    let shutdown = async {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = tokio::signal::ctrl_c() => return,
                // The policy folder is watched anyway: a hang-up must only not end the server.
                _ = hang_up.recv() => {}
            }
        }
    };
    server.run(shutdown).await?;
    Ok(ExitCode::SUCCESS)
}

/// Text for people on a terminal, else a JSON object a line.
fn log_to_stderr() {
    let filter = std::env::var("PGATE_LOG")
        .ok()
        .and_then(|filter| filter.parse().ok())
        .unwrap_or_else(|| tracing_subscriber::EnvFilter::new("pgate=info,warn"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // An Err says that a log is set up already.
    let _ = if std::io::stderr().is_terminal() {
        builder.with_ansi(console::colors_enabled_stderr()).try_init()
    } else {
        builder.json().flatten_event(true).with_ansi(false).try_init()
    };
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Failure::new(Exit::Usage, "configuration", error.to_string())
    }
}

impl From<ServeError> for Failure {
    fn from(error: ServeError) -> Self {
        let message = error.to_string();
        match error {
            ServeError::Policy(_) => Failure::new(Exit::Usage, "policy", message),
            ServeError::Tls(_) => Failure::new(Exit::Usage, "tls", message),
            ServeError::Key(_) => Failure::new(Exit::Failure, "signing_key", message),
            ServeError::Listen { .. } => Failure::new(Exit::Failure, "listen", message)
                .hint("another server may be running there; change \"listen\" in pgate.toml"),
            _ => Failure::new(Exit::Failure, "serve", message),
        }
    }
}
