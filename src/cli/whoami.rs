//! `pgate whoami`.

use std::process::ExitCode;

use serde_json::json;

use super::{context::Context, failure::Failure};

/// Show who the control plane says you are.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate whoami
  pgate whoami --output json")]
pub(crate) struct Args {}

pub(crate) async fn run(_args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let client = context.client()?;
    let identity = client.whoami().await?;
    let source = match context.workload()? {
        Some(workload) => workload.source(),
        None => "pgate login".into(),
    };
    if context.output.is_json() {
        context.output.json(&json!({
            "server": client.server(), "identity": identity, "login_from": source
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut fields = vec![
        ("who", identity.to_string()),
        ("subject", identity.subject.clone()),
        ("groups", identity.groups.join(", ")),
    ];
    for (name, value) in &identity.claims {
        fields.push((name, value.clone()));
    }
    fields.push(("server", client.server().to_string()));
    fields.push(("login from", source));
    fields.retain(|(_, value)| !value.is_empty());
    context.output.fields(&fields);
    Ok(ExitCode::SUCCESS)
}
