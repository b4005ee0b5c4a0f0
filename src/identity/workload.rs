//! Tokens of CI jobs and other workloads.

use std::{fmt, fs, path::PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use url::Url;

use super::{Error, web::Web};

/// The largest token that is read, in bytes.
const LARGEST: usize = 64 * 1024;

/// Where a workload's token comes from.
#[derive(Clone)]
pub enum Workload {
    /// `PGATE_TOKEN`: the token itself.
    Given(SecretString),
    /// `PGATE_TOKEN_FILE`: a file that something else keeps fresh, read at each use.
    File(PathBuf),
    /// GitHub Actions' token service.
    GitHub {
        /// `ACTIONS_ID_TOKEN_REQUEST_URL`.
        url: Url,
        /// `ACTIONS_ID_TOKEN_REQUEST_TOKEN`.
        token: SecretString,
    },
}

impl fmt::Debug for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.source())
    }
}

impl Workload {
    /// The environment's token, if it has one: `PGATE_TOKEN`, else
    /// `PGATE_TOKEN_FILE`, else GitHub Actions.
    pub fn from_environment(
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, Error> {
        let set = |name: &str| environment(name).filter(|value| !value.is_empty());
        if let Some(text) = set("PGATE_TOKEN") {
            return Ok(Some(Workload::Given(token("PGATE_TOKEN", &text)?)));
        }
        if let Some(file) = set("PGATE_TOKEN_FILE") {
            return Ok(Some(Workload::File(PathBuf::from(file))));
        }
        let service = set("ACTIONS_ID_TOKEN_REQUEST_URL");
        let Some((url, secret)) = service.zip(set("ACTIONS_ID_TOKEN_REQUEST_TOKEN")) else {
            return Ok(None);
        };
        let url = url.parse().map_err(|_| Error::NoWorkloadToken {
            source_of: "ACTIONS_ID_TOKEN_REQUEST_URL".into(),
            problem: "it is not a URL".into(),
        })?;
        Ok(Some(Workload::GitHub { url, token: SecretString::from(secret) }))
    }

    /// Where it comes from, in words.
    pub fn source(&self) -> String {
        match self {
            Workload::Given(_) => "PGATE_TOKEN".into(),
            Workload::File(file) => format!("PGATE_TOKEN_FILE ({})", file.display()),
            Workload::GitHub { .. } => "GitHub Actions".into(),
        }
    }

    /// Whether it needs an audience to be asked for.
    pub fn wants_audience(&self) -> bool {
        matches!(self, Workload::GitHub { .. })
    }

    /// A token, new where the source makes new ones. `audience` is what the control
    /// plane wants in it.
    pub async fn token(&self, audience: Option<&str>) -> Result<SecretString, Error> {
        match self {
            Workload::Given(token) => Ok(token.clone()),
            Workload::File(file) => read(file, &self.source()),
            Workload::GitHub { url, token } => from_github(url, token, audience).await,
        }
    }
}

fn read(file: &PathBuf, source: &str) -> Result<SecretString, Error> {
    let text = fs::read_to_string(file).map_err(|error| Error::NoWorkloadToken {
        source_of: source.to_owned(),
        problem: error.to_string(),
    })?;
    token(source, &text)
}

/// Something that can be a bearer token (RFC 6750, section 2.1); its ends may be
/// blank, as files end.
fn token(source: &str, text: &str) -> Result<SecretString, Error> {
    let text = text.trim();
    let fits = !text.is_empty()
        && text.len() <= LARGEST
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte));
    if fits {
        Ok(SecretString::from(text.to_owned()))
    } else {
        Err(Error::NoWorkloadToken {
            source_of: source.to_owned(),
            problem: "it does not hold a token".into(),
        })
    }
}

async fn from_github(
    url: &Url,
    secret: &SecretString,
    audience: Option<&str>,
) -> Result<SecretString, Error> {
    #[derive(Deserialize)]
    struct Answer {
        value: SecretString,
    }
    let failed =
        |problem: String| Error::NoWorkloadToken { source_of: "GitHub Actions".into(), problem };
    let mut url = url.clone();
    if let Some(audience) = audience {
        url.query_pairs_mut().append_pair("audience", audience);
    }
    let mut authorization =
        http::HeaderValue::try_from(format!("Bearer {}", secret.expose_secret()))
            .map_err(|_| failed("ACTIONS_ID_TOKEN_REQUEST_TOKEN is not a token".into()))?;
    authorization.set_sensitive(true);
    let request = http::Request::get(url.as_str())
        .header(http::header::AUTHORIZATION, authorization)
        .header(http::header::ACCEPT, "application/json")
        .body(Vec::new())
        .map_err(|error| failed(error.to_string()))?;
    let answer = Web::new(&url)?.send(request).await?;
    if !answer.status().is_success() {
        return Err(failed(format!("its token service says {}", answer.status())));
    }
    let answer: Answer = serde_json::from_slice(answer.body())
        .map_err(|_| failed("its token service's answer can't be read".into()))?;
    token("GitHub Actions", answer.value.expose_secret())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(environment: &[(&str, &str)]) -> Result<Option<String>, Error> {
        let lookup = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| value.to_string())
        };
        Ok(Workload::from_environment(lookup)?.map(|workload| workload.source()))
    }

    #[test]
    fn the_first_source_in_the_environment_is_used() {
        let github = [
            ("ACTIONS_ID_TOKEN_REQUEST_URL", "https://token.example/?a=1"),
            ("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "secret"),
        ];
        let file = ("PGATE_TOKEN_FILE", "/run/token");
        let given = ("PGATE_TOKEN", "a.b.c");
        for (environment, source) in [
            (vec![], None),
            (vec![github[0]], None),
            (github.to_vec(), Some("GitHub Actions")),
            (vec![github[0], github[1], file], Some("PGATE_TOKEN_FILE (/run/token)")),
            (vec![github[0], github[1], file, given], Some("PGATE_TOKEN")),
            (vec![("PGATE_TOKEN", ""), file], Some("PGATE_TOKEN_FILE (/run/token)")),
        ] {
            assert_eq!(found(&environment).expect("readable").as_deref(), source);
        }
    }

    #[test]
    fn what_can_not_be_a_token_is_refused_unseen() {
        for text in [" ", "two words", "line\r\nX-Injected: 1", "snow☃man"] {
            let error = found(&[("PGATE_TOKEN", text)]).expect_err(text);
            assert_eq!(error.to_string(), "PGATE_TOKEN: it does not hold a token");
        }
    }

    #[tokio::test]
    async fn a_token_file_is_read_anew_each_time() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let workload = Workload::File(file.path().to_owned());
        for text in ["first\n", "second"] {
            fs::write(file.path(), text).expect("written");
            let token = workload.token(None).await.expect("a token");
            assert_eq!(token.expose_secret(), text.trim());
        }
        fs::remove_file(file.path()).expect("removed");
        assert!(workload.token(None).await.is_err());
    }
}
