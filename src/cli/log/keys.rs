//! The control plane's public keys: from files, from its well-known URL, or as
//! they were fetched last.

use std::{fs, io::Read as _, path::Path};

use serde::Deserialize;
use url::Url;

use crate::{
    api::{self, Client, KeySet},
    cli::{context::Context, failure::Failure, output::escaped},
    grant::{Jwk, VerifyingKey},
};

/// The largest key file that is read.
const LARGEST: u64 = 1 << 20;

/// A key file: a JSON Web Key (RFC 7517), or a set of them.
#[derive(Deserialize)]
#[serde(untagged)]
enum KeyFile {
    Set(KeySet),
    One(Jwk),
}

/// The keys that `--key` names, or the server's own where it names none.
pub(super) async fn load(
    named: &[String],
    context: &Context,
) -> Result<Vec<VerifyingKey>, Failure> {
    if named.is_empty() {
        return of_server(context).await;
    }
    let mut keys = Vec::new();
    for name in named {
        let found = match name.parse::<Url>() {
            Ok(url) if matches!(url.scheme(), "http" | "https") => {
                usable(Client::without_login(&url)?.keys().await?)
            }
            _ => in_file(Path::new(name))?,
        };
        keys.extend(found);
    }
    Ok(keys)
}

fn in_file(path: &Path) -> Result<Vec<VerifyingKey>, Failure> {
    let shown = escaped(&path.display().to_string());
    let hint = "a key file is a JSON Web Key or a set of them, as the server's \
                /.well-known/pgate/keys answers";
    let fail = |why: String| {
        Failure::from(anyhow::anyhow!("can't read the key {shown}: {why}")).hint(hint)
    };
    let mut text = String::new();
    let file = fs::File::open(path).map_err(|why| fail(why.to_string()))?;
    file.take(LARGEST).read_to_string(&mut text).map_err(|why| fail(why.to_string()))?;
    let keys = match serde_json::from_str::<KeyFile>(&text) {
        Ok(KeyFile::One(key)) => vec![key],
        Ok(KeyFile::Set(set)) => set.keys,
        Err(_) => return Err(fail("it is neither a JSON Web Key nor a set of them".into())),
    };
    let keys = usable(KeySet { keys });
    if keys.is_empty() { Err(fail("it holds no Ed25519 public key".into())) } else { Ok(keys) }
}

/// Fetches the server's keys and remembers them; out of its reach, those that were
/// remembered do.
async fn of_server(context: &Context) -> Result<Vec<VerifyingKey>, Failure> {
    let server = &context.server().map_err(or_key)?.value;
    let remembered = context.folders.server_keys(server);
    match context.public_client()?.keys().await {
        Ok(set) => {
            let keys = usable(set.clone());
            if keys.is_empty() {
                let message = format!("{server} has no Ed25519 public key");
                return Err(anyhow::anyhow!(message).into());
            }
            remember(&remembered, &set);
            Ok(keys)
        }
        Err(error @ api::Error::Unreachable { .. }) => match in_file(&remembered) {
            Ok(keys) => {
                let known = "verifying with its keys as they were fetched last";
                context.output.warn(format!("{}; {known}", escaped(&error.to_string())));
                Ok(keys)
            }
            Err(_) => Err(or_key(error.into())),
        },
        Err(error) => Err(or_key(error.into())),
    }
}

fn or_key(failure: Failure) -> Failure {
    failure.hint("pass --key FILE with the server's public keys; that needs no network")
}

/// Keys of other kinds are passed over: they sign nothing of ours.
fn usable(set: KeySet) -> Vec<VerifyingKey> {
    set.keys.iter().filter_map(|key| VerifyingKey::from_jwk(key).ok()).collect()
}

/// A convenience: a failure to write it costs the next offline run, nothing else.
fn remember(path: &Path, set: &KeySet) {
    let written = || {
        let folder = path.parent()?;
        fs::create_dir_all(folder).ok()?;
        let mut file = tempfile::NamedTempFile::new_in(folder).ok()?;
        serde_json::to_writer(&mut file, set).ok()?;
        file.persist(path).ok()
    };
    if written().is_none() {
        tracing::debug!(path = %path.display(), "the server's keys can't be remembered");
    }
}
