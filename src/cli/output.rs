//! What a command prints and where: results on stdout (text, or JSON with one
//! object or event a line), everything else on stderr.
//!
//! Text from a server or a log is escaped before it reaches a terminal, so that
//! nothing in a reason or a comment can move the cursor or recolour a prompt.

use std::{
    fmt::Write as _,
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::failure::Failure;
use crate::api::distance;
pub(crate) use crate::api::{escaped, lasting};

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// One JSON object, or one event a line, on stdout.
    Json,
}

impl Format {
    /// As flags and files write it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Format::Text => "text",
            Format::Json => "json",
        }
    }
}

/// How much is said beside the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Chatter {
    /// `-q`: errors only.
    Quiet,
    /// Notes, progress and suggestions.
    Normal,
}

/// Where a command writes.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    format: Format,
    chatter: Chatter,
    stdout_is_terminal: bool,
    stderr_is_terminal: bool,
}

impl Output {
    /// For this process's stdout and stderr.
    pub(crate) fn new(format: Format, chatter: Chatter) -> Self {
        Self {
            format,
            chatter,
            stdout_is_terminal: io::stdout().is_terminal(),
            stderr_is_terminal: io::stderr().is_terminal(),
        }
    }

    /// Whether `--output json` holds.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// Whether stdout is a terminal.
    pub(crate) fn is_terminal(&self) -> bool {
        self.stdout_is_terminal
    }

    /// Prints one JSON object as one line on stdout.
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<(), Failure> {
        let line = serde_json::to_string(value).map_err(anyhow::Error::from)?;
        print(&line);
        Ok(())
    }

    /// Prints `text` and a line feed on stdout, as it is.
    pub(crate) fn line(&self, text: impl AsRef<str>) {
        print(text.as_ref());
    }

    /// The same while something is open that must be closed first, should the reader have
    /// gone away.
    pub(crate) fn try_line(&self, text: impl AsRef<str>) -> io::Result<()> {
        write(&mut io::stdout().lock(), text.as_ref())
    }

    /// Says something beside the result (stderr); nothing with `-q` or JSON.
    pub(crate) fn note(&self, text: impl AsRef<str>) {
        if self.chatter == Chatter::Normal && !self.is_json() {
            say(text.as_ref());
        }
    }

    /// Asks something of the person (stderr), whatever the verbosity.
    pub(crate) fn ask(&self, text: impl AsRef<str>) {
        say(text.as_ref());
    }

    /// Warns on stderr, whatever the verbosity; a JSON object in JSON mode.
    pub(crate) fn warn(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        let line = if self.is_json() {
            serde_json::json!({ "warning": text }).to_string()
        } else {
            let word = console::style("warning:").yellow().for_stderr();
            format!("{word} {}", escaped_lines(text))
        };
        say(&line);
    }

    /// Suggests the next command.
    pub(crate) fn next(&self, command: impl AsRef<str>) {
        let word = console::style("next:").dim().for_stderr();
        self.note(format!("{word} {}", command.as_ref()));
    }

    /// Prints a failure on stderr.
    pub(crate) fn failure(&self, failure: &Failure) {
        let mut text = String::new();
        if self.is_json() {
            text = serde_json::to_string(failure).unwrap_or_else(|_| failure.message().to_owned());
        } else {
            let word = console::style("error:").red().bold().for_stderr();
            let _ = write!(text, "{word} {}", escaped_lines(failure.message()));
            if let Some(hint) = failure.way_out() {
                let word = console::style("hint:").cyan().for_stderr();
                let _ = write!(text, "\n{word} {}", escaped_lines(hint));
            }
        }
        say(&text);
    }

    /// Shows a spinner on stderr until it is dropped; on no terminal it says
    /// `message` once.
    pub(crate) fn spinner(&self, message: impl Into<String>) -> Spinner {
        let message = message.into();
        if self.chatter == Chatter::Quiet || self.is_json() {
            return Spinner(ProgressBar::hidden());
        }
        if !self.stderr_is_terminal {
            self.note(&message);
        }
        self.brief_spinner(message)
    }

    /// The same for what takes a moment: on no terminal it isn't worth a line.
    pub(crate) fn brief_spinner(&self, message: impl Into<String>) -> Spinner {
        if self.chatter == Chatter::Quiet || self.is_json() || !self.stderr_is_terminal {
            return Spinner(ProgressBar::hidden());
        }
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed:.dim}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        let bar = ProgressBar::new_spinner().with_style(style).with_message(message.into());
        bar.enable_steady_tick(Duration::from_millis(120));
        Spinner(bar)
    }

    /// Prints rows under headings, in columns as wide as their widest cell. Cells
    /// are escaped here.
    pub(crate) fn table<const N: usize>(&self, headings: [&str; N], rows: &[[String; N]]) {
        for line in columns(headings, rows, self.stdout_is_terminal) {
            self.line(line);
        }
    }

    /// Prints `name  value` pairs, names aligned. Values are escaped here.
    pub(crate) fn fields(&self, fields: &[(&str, String)]) {
        let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
        for (name, value) in fields {
            let name = console::style(format!("{name:width$}")).dim();
            self.line(format!("{name}  {}", escaped(value)));
        }
    }
}

/// A running spinner; dropping it wipes it off the terminal.
pub(crate) struct Spinner(ProgressBar);

impl Drop for Spinner {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// The same for text of several lines. What was escaped before stays as it is.
fn escaped_lines(text: &str) -> String {
    text.split('\n').map(escaped).collect::<Vec<_>>().join("\n")
}

/// A moment as people read it: local time, and how far away it is.
pub(crate) fn moment(at: Timestamp, now: Timestamp) -> String {
    let local = at.to_zoned(TimeZone::system());
    let today = now.to_zoned(TimeZone::system()).date();
    let shown = if local.date() == today {
        local.strftime("%H:%M")
    } else {
        local.strftime("%Y-%m-%d %H:%M")
    };
    format!("{shown} ({})", distance(at, now))
}

fn columns<const N: usize>(
    headings: [&str; N],
    rows: &[[String; N]],
    terminal: bool,
) -> Vec<String> {
    let cells: Vec<[String; N]> =
        rows.iter().map(|row| row.each_ref().map(|cell| escaped(cell))).collect();
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in &cells {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |row: [&str; N]| {
        let mut text = String::new();
        for (cell, width) in row.iter().zip(widths) {
            let _ = write!(text, "{cell:width$}  ");
        }
        text.truncate(text.trim_end().len());
        text
    };
    let heading = line(headings);
    let heading = if terminal { console::style(heading).dim().to_string() } else { heading };
    std::iter::once(heading)
        .chain(cells.iter().map(|row| line(row.each_ref().map(String::as_str))))
        .collect()
}

/// The exit code for a reader that has gone away (128 + SIGPIPE).
pub(crate) const READER_GONE: u8 = 141;

/// Writes a line of the result; a reader that has gone away (`pgate grants | head`) ends
/// the process quietly, as it would any other program.
fn print(line: &str) {
    if let Err(error) = write(&mut io::stdout().lock(), line)
        && error.kind() == io::ErrorKind::BrokenPipe
    {
        std::process::exit(READER_GONE.into());
    }
}

/// Says a line on stderr. Whether anybody listens is no concern of the command's.
fn say(line: &str) {
    let _ = write(&mut io::stderr().lock(), line);
}

fn write(to: &mut impl io::Write, line: &str) -> io::Result<()> {
    writeln!(to, "{line}")?;
    to.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell_and_end_without_blanks() {
        let rows = [["gr_1".into(), "ok".into()], ["x".into(), String::new()]];
        assert_eq!(columns(["ID", "STATE"], &rows, false), ["ID    STATE", "gr_1  ok", "x"]);
    }
}
