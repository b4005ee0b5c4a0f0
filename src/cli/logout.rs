//! `pgate logout`.

use std::process::ExitCode;

use serde_json::json;

use super::{context::Context, credentials::with_store, failure::Failure};

/// Forget the login for the control plane.
///
/// Removes the tokens from the keyring or the file. Sessions that are open go on
/// until their grant ends; `pgate grants revoke` ends them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate logout
  pgate --server https://pgate.example.com logout")]
pub(crate) struct Args {}

pub(crate) async fn run(_args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let server = context.server()?.value.clone();
    let forget = server.clone();
    let found = with_store(&context.store(), move |store| store.remove(&forget)).await?;
    if context.output.is_json() {
        context.output.json(&json!({ "server": server, "logged_out": found }))?;
    } else if found {
        context.output.line(format!("logged out of {server}"));
    } else {
        context.output.line(format!("there was no login for {server}"));
    }
    Ok(ExitCode::SUCCESS)
}
