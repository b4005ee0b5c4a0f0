//! What every command works with: the settings, the folders, the output.

use std::io::{self, IsTerminal as _};

use url::Url;

use super::{failure::Failure, output::Output};
use crate::config::{Folders, Setting, Settings};

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
            Failure::usage("no server is set").hint(
                "pass --server URL, set PGATE_SERVER, or write server = \"https://…\" \
                 into your config.toml (`pgate doctor` shows where it is)",
            )
        })
    }
}
