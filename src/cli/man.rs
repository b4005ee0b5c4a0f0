//! `pgate man`.

use std::{collections::BTreeMap, fs, io, path::PathBuf, process::ExitCode};

use super::{context::Context, failure::Failure};

/// Print pgate's man page, or write all of them.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate man | man -l -
  pgate man --dir ~/.local/share/man/man1")]
pub(crate) struct Args {
    /// Write the pages of pgate and of every subcommand into this folder
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let pages = pages()?;
    let Some(dir) = args.dir else {
        for (name, page) in &pages {
            if name == "pgate.1" {
                context.output.line(page.trim_end());
            }
        }
        return Ok(ExitCode::SUCCESS);
    };
    fs::create_dir_all(&dir)?;
    for (name, page) in &pages {
        fs::write(dir.join(name), page)?;
    }
    context.output.note(format!("wrote {} pages to {}", pages.len(), dir.display()));
    Ok(ExitCode::SUCCESS)
}

/// Every page, by file name.
pub(super) fn pages() -> io::Result<BTreeMap<String, String>> {
    let mut command = super::definition().disable_help_subcommand(true);
    command.build();
    let mut pages = BTreeMap::new();
    collect(&command, "pgate", &mut pages)?;
    Ok(pages)
}

fn collect(
    command: &clap::Command,
    name: &str,
    pages: &mut BTreeMap<String, String>,
) -> io::Result<()> {
    for sub in command.get_subcommands() {
        collect(sub, &format!("{name}-{}", sub.get_name()), pages)?;
    }
    // clap wants 'static names, and these are made here.
    let named: &'static str = Box::leak(name.to_owned().into_boxed_str());
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone().name(named))
        .date("")
        .source(concat!("pgate ", env!("CARGO_PKG_VERSION")))
        .manual("pgate")
        .render(&mut page)?;
    // clap calls what follows the options EXTRA; readers look for EXAMPLES.
    let page = String::from_utf8_lossy(&page)
        .replace("\n.SH EXTRA\nExamples:\n", "\n.SH EXAMPLES\n")
        .replace("\n.SH EXTRA\n", "\n.SH NOTES\n");
    pages.insert(format!("{name}.1"), page);
    Ok(())
}
