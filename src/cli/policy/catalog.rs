//! `pgate policy catalog`.

use std::{io::Write as _, path::PathBuf, process::ExitCode};

use anyhow::Context as _;
use serde_json::Value;

use super::{database::Database, files::Files};
use crate::cli::{context::Context, failure::Failure};

/// Save a database's catalog, for explain, test and diff where the database is out of reach
///
/// The catalog is what pgate knows of a database: names and types of tables, columns, views,
/// functions; no row and no secret. It is one JSON document with one object a line, in an
/// order that version control can compare.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  pgate policy catalog policy/ --target prod-db > policy/tests/shop.json
  pgate policy catalog policy/ --target prod-db --to policy/tests/shop.json
  PGATE_DATABASE_URL=\"$(cat url)\" pgate policy catalog --to shop.json")]
pub(super) struct Args {
    /// The policy whose target it is; not needed with a connection URL
    #[arg(value_name = "DIR|FILE")]
    paths: Vec<PathBuf>,

    #[command(flatten)]
    database: Database,

    /// Write it to this file instead of stdout
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
}

pub(super) async fn run(args: Args, context: &Context) -> Result<ExitCode, Failure> {
    let output = &context.output;
    let (policy, folder) = if args.paths.is_empty() {
        (Default::default(), PathBuf::from("."))
    } else {
        let files = Files::read(&args.paths)?;
        (files.policy(output)?, files.folder)
    };
    let target = args.database.target(&policy)?;
    let spinner = output.spinner("Reading the catalog");
    let document = args.database.connect(target, &folder).await?.catalog().await?;
    drop(spinner);
    let text = lines(&document)?;
    match &args.to {
        None => output.line(text),
        Some(path) => {
            // Whole or not at all: a test must not read half a catalog.
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            let folder = parent.unwrap_or(std::path::Path::new("."));
            let written = || -> std::io::Result<()> {
                let mut file = tempfile::NamedTempFile::new_in(folder)?;
                writeln!(file, "{text}")?;
                readable(&file)?;
                file.persist(path)?;
                Ok(())
            };
            written().with_context(|| format!("writing {}", path.display()))?;
            output.note(format!("saved {}", path.display()));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Temporary files are for their owner alone; a catalog is an ordinary file.
fn readable(file: &tempfile::NamedTempFile) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.as_file().set_permissions(std::fs::Permissions::from_mode(0o644))
}

/// The same document with one object a line, in an order of its own.
fn lines(document: &str) -> Result<String, Failure> {
    let value = serde_json::from_str::<Value>(document).context("the catalog is not JSON")?;
    let Value::Object(parts) = value else {
        return Err(anyhow::anyhow!("the catalog is not a JSON object").into());
    };
    let mut written = Vec::new();
    for (key, value) in parts {
        let key = Value::String(key).to_string();
        match value {
            // The order of the search path means something; names alone fill no lines.
            Value::Array(items)
                if key != "\"search_path\"" && !items.iter().all(Value::is_string) =>
            {
                let mut items = items.iter().map(Value::to_string).collect::<Vec<_>>();
                items.sort();
                written.push(format!("{key}: [\n{}\n]", items.join(",\n")));
            }
            Value::Array(items) if key != "\"search_path\"" => {
                let mut items = items.iter().map(Value::to_string).collect::<Vec<_>>();
                items.sort();
                written.push(format!("{key}: [{}]", items.join(",")));
            }
            value => written.push(format!("{key}: {value}")),
        }
    }
    Ok(format!("{{\n{}\n}}", written.join(",\n")))
}
