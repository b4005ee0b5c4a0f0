//! `pgate login`.

use std::{process::ExitCode, sync::Arc};

use jiff::Timestamp;
use serde_json::json;

use super::{
    context::Context,
    credentials::{Unstored, with_store},
    failure::Failure,
    output::{escaped, lasting},
};
use crate::{
    api::{Client, IssuerInfo, ServerInfo, clock_difference},
    identity::{Authorization, Issuer, Place},
};

/// Log in to the control plane with your identity provider.
///
/// Shows a URL and a code, opens the browser and waits until you have confirmed
/// there. The tokens are kept in the operating system's keyring, or in a file that
/// only you can read where there is no keyring, and are renewed silently.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate login
  pgate login --no-browser
  pgate --server https://pgate.example.com login --issuer corp

A CI job needs no login: it sets PGATE_TOKEN or PGATE_TOKEN_FILE, or runs on
GitHub Actions with the permission `id-token: write`.")]
pub(crate) struct Args {
    /// Show the URL and open no browser
    #[arg(long)]
    no_browser: bool,

    /// The issuer to log in with, where the server knows several
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let output = &context.output;
    let server = context.server_for_login()?.clone();
    let info = context.public_client()?.info().await?;
    if let Some(difference) = clock_difference(info.now, Timestamp::now()) {
        output.warn(difference);
    }
    let issuer = choose(&info, args.issuer.as_deref())?;
    let authorization = Authorization::begin(&issuer).await?;
    show(&authorization, context)?;
    if !args.no_browser && context.may_ask() {
        open(authorization.complete_url().unwrap_or(authorization.url()).as_str());
    }

    let spinner = output.spinner("waiting for you to confirm in the browser");
    let login = tokio::select! {
        outcome = authorization.wait() => outcome?,
        _ = tokio::signal::ctrl_c() => {
            return Err(Failure::not_logged_in("the login was interrupted"));
        }
    };
    drop(spinner);

    // What the server doesn't take is not worth keeping.
    let unstored = Arc::new(Unstored(login.id_token().clone()));
    let identity = Client::new(&server, unstored)?.whoami().await?;
    let (store, keep, kept_for) = (context.store(), login.clone(), server.clone());
    let place = with_store(&store, move |store| store.save(&kept_for, &keep)).await?;

    if output.is_json() {
        let kept_in = match &place {
            Place::Keyring => "keyring".to_owned(),
            Place::File { file, .. } => file.display().to_string(),
        };
        let event = json!({
            "event": "logged_in", "server": server, "identity": identity, "kept_in": kept_in
        });
        output.json(&event)?;
        return Ok(ExitCode::SUCCESS);
    }
    output.line(format!("logged in to {server} as {}", escaped(&identity.to_string())));
    if let Place::File { file, because } = place {
        let because = because.unwrap_or_else(|| "the keyring is switched off".into());
        output.note(format!(
            "{}; tokens are kept in {} (only you can read it)",
            escaped(&because),
            file.display()
        ));
    }
    if let Ok(Some(workload)) = context.workload() {
        output.warn(format!("{} is set and is used instead of this login", workload.source()));
    }
    output.next("pgate targets");
    Ok(ExitCode::SUCCESS)
}

/// The issuer for people that is asked for, or the only one.
fn choose(info: &ServerInfo, wanted: Option<&str>) -> Result<Issuer, Failure> {
    let people = || info.issuers.iter().filter(|issuer| issuer.client_id.is_some());
    let names = || people().map(|issuer| issuer.name.as_str()).collect::<Vec<_>>().join(", ");
    let mut fitting = people().filter(|issuer| wanted.is_none_or(|name| issuer.name == name));
    match (fitting.next(), fitting.next(), wanted) {
        (Some(IssuerInfo { name, url, client_id: Some(client_id), scopes, .. }), None, _) => {
            Ok(Issuer {
                name: name.clone(),
                url: url.clone(),
                client_id: client_id.clone(),
                scopes: scopes.clone(),
            })
        }
        (Some(_), _, _) => Err(Failure::usage("the server knows several issuers")
            .hint(format!("pass --issuer with one of: {}", escaped(&names())))),
        (None, _, Some(name)) if people().next().is_some() => {
            Err(Failure::usage(format!("the server knows no issuer \"{name}\" for people"))
                .hint(format!("it knows: {}", escaped(&names()))))
        }
        (None, ..) => Err(Failure::refused("no_issuer", "people can't log in to this server")
            .hint("its configuration has no [[issuer]] with a client_id")),
    }
}

/// Tells where to go and what to enter, whatever the verbosity.
fn show(authorization: &Authorization, context: &Context) -> Result<(), Failure> {
    let output = &context.output;
    let expires_in = authorization.expires_in().as_secs();
    if output.is_json() {
        return output.json(&json!({
            "event": "device_code",
            "url": authorization.url(),
            "complete_url": authorization.complete_url(),
            "code": authorization.user_code(),
            "expires_in_seconds": expires_in,
        }));
    }
    let code = escaped(authorization.user_code());
    let url = authorization.complete_url().unwrap_or(authorization.url());
    output.ask(format!("Open   {url}"));
    output.ask(format!(
        "Code   {}  (for {})",
        console::style(code).bold().for_stderr(),
        lasting(expires_in)
    ));
    Ok(())
}

/// Opens the browser where there is one. A browser that runs in the terminal would
/// take it over, so without a screen nothing is opened.
fn open(url: &str) {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let screen = cfg!(target_os = "macos")
        || ["DISPLAY", "WAYLAND_DISPLAY", "BROWSER", "WSL_DISTRO_NAME"].into_iter().any(set);
    if screen {
        let url = url.to_owned();
        std::thread::spawn(move || {
            if let Err(error) = webbrowser::open(&url) {
                tracing::info!(%error, "no browser could be opened");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(issuers: &[(&str, bool)]) -> ServerInfo {
        let issuers = issuers.iter().map(|(name, people)| IssuerInfo {
            name: (*name).into(),
            url: "https://idp.example".into(),
            client_id: people.then(|| "pgate".into()),
            audience: (!people).then(|| "pgate".into()),
            scopes: Vec::new(),
        });
        ServerInfo {
            version: "0".into(),
            public_url: "https://pgate.example".into(),
            now: Timestamp::UNIX_EPOCH,
            issuers: issuers.collect(),
        }
    }

    #[test]
    fn the_issuer_is_the_one_named_or_the_only_one() {
        let (corp, guests, github) = (("corp", true), ("guests", true), ("github", false));
        for (issuers, wanted, chosen) in [
            (vec![corp, github], None, Ok("corp")),
            (vec![corp, guests], Some("guests"), Ok("guests")),
            (vec![corp, guests], None, Err("corp, guests")),
            (vec![corp, github], Some("github"), Err("it knows: corp")),
            (vec![github], None, Err("client_id")),
            (vec![github], Some("github"), Err("client_id")),
        ] {
            let outcome = choose(&info(&issuers), wanted);
            match (outcome, chosen) {
                (Ok(issuer), Ok(name)) => assert_eq!(issuer.name, name),
                (Err(failure), Err(said)) => {
                    assert!(failure.way_out().is_some_and(|hint| hint.contains(said)));
                }
                (outcome, _) => panic!("{issuers:?} {wanted:?}: {outcome:?}"),
            }
        }
    }
}
