//! Where a log to be read comes from: a file, stdin, or the control plane.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Seek as _, Write as _},
    path::PathBuf,
};

use crate::{
    cli::{context::Context, failure::Failure, output::escaped},
    grant::SessionId,
};

/// A log, as the command line names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Source {
    /// `-`.
    Stdin,
    /// A path.
    File(PathBuf),
    /// A session's id: the control plane's copy.
    Session(SessionId),
}

impl std::str::FromStr for Source {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match (text, text.parse::<SessionId>()) {
            ("-", _) => Source::Stdin,
            (_, Ok(session)) => Source::Session(session),
            (path, Err(_)) => Source::File(path.into()),
        })
    }
}

impl Source {
    /// Opens it, downloading it to a nameless temporary file where need be.
    pub(crate) async fn open(&self, context: &Context) -> Result<Box<dyn BufRead + Send>, Failure> {
        match self {
            Source::Stdin => Ok(Box::new(BufReader::new(io::stdin()))),
            Source::File(path) => match File::open(path) {
                Ok(file) => Ok(Box::new(BufReader::new(file))),
                Err(why) => {
                    let message =
                        format!("can't read {}: {why}", escaped(&path.display().to_string()));
                    let hint = "give a log file, - for stdin, or a session id (se_…)";
                    Err(Failure::from(anyhow::anyhow!(message)).hint(hint))
                }
            },
            Source::Session(session) => {
                let mut file = tempfile::tempfile()?;
                let spinner = context.output.spinner("Fetching the session log");
                context.client()?.copy_log(session, |piece| file.write_all(piece)).await?;
                drop(spinner);
                file.rewind()?;
                Ok(Box::new(BufReader::new(file)))
            }
        }
    }
}
