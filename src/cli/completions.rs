//! `pgate completions`.

use std::process::ExitCode;

use clap_complete::Shell;

use super::{context::Context, failure::Failure};

/// Print the completion script of a shell.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate completions bash > ~/.local/share/bash-completion/completions/pgate
  pgate completions zsh > ~/.zfunc/_pgate
  pgate completions fish > ~/.config/fish/completions/pgate.fish")]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    context.output.line(script(args.shell).trim_end());
    Ok(ExitCode::SUCCESS)
}

/// A shell's completion script.
pub(super) fn script(shell: Shell) -> String {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::definition(), "pgate", &mut script);
    String::from_utf8_lossy(&script).into_owned()
}
