//! What every command works with: the settings, the folders, the output, and the
//! way to the control plane.

use std::{
    io::{self, IsTerminal as _},
    sync::Arc,
};

use url::Url;

use super::{credentials::Credentials, failure::Failure, output::Output};
use crate::{
    api::Client,
    config::{Folders, Keyring, Setting, Settings, Source},
    identity::{Store, Workload},
};

/// Everything that a command is given beside its own arguments.
#[derive(Debug)]
pub(crate) struct Context {
    /// The layered settings.
    pub(crate) settings: Settings,
    /// Where files are.
    pub(crate) folders: Folders,
    /// Where to write.
    pub(crate) output: Output,
    no_input: bool,
}

impl Context {
    pub(super) fn new(
        settings: Settings,
        folders: Folders,
        output: Output,
        no_input: bool,
    ) -> Self {
        Self { settings, folders, output, no_input }
    }

    /// Whether somebody is there to be asked: a terminal on stdin and stderr, and no
    /// `--no-input`.
    pub(crate) fn may_ask(&self) -> bool {
        !self.no_input && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// The control plane, or a failure that says how to name one.
    pub(crate) fn server(&self) -> Result<&Setting<Url>, Failure> {
        self.settings.server.as_ref().ok_or_else(|| {
            Failure::usage("no server is set").hint(format!(
                "pass --server URL, set PGATE_SERVER, or write server = \"https://…\" into {}",
                self.folders.settings_file().display()
            ))
        })
    }

    /// The control plane to log in to. One that only a project file names is refused: a
    /// stranger's repository could name a server that sends its visitors to their own issuer,
    /// and the token that they then bring there is good at their own control plane too.
    pub(crate) fn server_for_login(&self) -> Result<&Url, Failure> {
        let server = self.server()?;
        match &server.source {
            Source::Project { file, .. } => Err(Failure::usage(format!(
                "the server is named by {} alone; whoever wrote that file could use your login \
                 elsewhere in your name",
                file.display()
            ))
            .hint(format!(
                "if it is your control plane, name it yourself once: pgate login --server {}",
                server.value
            ))),
            _ => Ok(&server.value),
        }
    }

    /// A client that logs in: with the environment's workload token where there is
    /// one, else with the stored login.
    pub(crate) fn client(&self) -> Result<Client, Failure> {
        let server = self.server()?;
        let credentials = match self.workload()? {
            Some(workload) => Credentials::of_workload(workload, self.public_client()?),
            None => Credentials::stored(server.value.clone(), self.store()),
        };
        Ok(Client::new(&server.value, Arc::new(credentials))?)
    }

    /// A client for the public routes.
    pub(crate) fn public_client(&self) -> Result<Client, Failure> {
        Ok(Client::without_login(&self.server()?.value)?)
    }

    /// The environment's workload token. It goes to no server that only a project
    /// file names: a stranger's repository could name any.
    pub(crate) fn workload(&self) -> Result<Option<Workload>, Failure> {
        let workload = Workload::from_environment(|name| std::env::var(name).ok())?;
        match (&workload, &self.server()?.source) {
            (Some(workload), Source::Project { file, .. }) => Err(Failure::usage(format!(
                "the server is named by {} alone; the token of {} is not sent there",
                file.display(),
                workload.source()
            ))
            .hint("name the server yourself: --server URL or PGATE_SERVER")),
            _ => Ok(workload),
        }
    }

    /// Where logins are kept.
    pub(crate) fn store(&self) -> Arc<Store> {
        let file = self.folders.logins_file();
        Arc::new(match self.settings.keyring.value {
            Keyring::Auto => Store::with_keyring(file),
            Keyring::Off => Store::in_file(file),
        })
    }

    /// The target that a command names, else the one of the settings.
    pub(crate) fn target(&self, named: Option<String>) -> Result<String, Failure> {
        let set = || self.settings.target.as_ref().map(|target| target.value.clone());
        named.or_else(set).ok_or_else(|| {
            Failure::usage("no target is named")
                .hint("name one (`pgate targets` lists them), or set PGATE_TARGET")
        })
    }
}
