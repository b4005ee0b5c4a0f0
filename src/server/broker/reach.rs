//! Reaching a target's database as its administrator: secrets, addresses,
//! connections, and what may be told of an error.

use std::{io::Read as _, os::unix::fs::MetadataExt as _, path::Path};

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, PgConnection,
    postgres::{PgConnectOptions, PgSslMode},
};
use url::Url;
use zeroize::Zeroizing;

use super::{BrokerError, hosts::first_that_fits};
use crate::{
    api::{ChannelBindingUse, ClientCertificate, DatabaseHost, SessionAttrs, SslNegotiation},
    policy::{SecretRef, Target, host_list},
    server::config::on_loopback,
};

/// Milliseconds that one statement of the broker may take.
const STATEMENT_TIMEOUT: &str = "30000";
/// Milliseconds that one statement of the broker may wait for a lock.
const LOCK_TIMEOUT: &str = "10000";
const OPTIONS: [(&str, &str); 3] = [
    ("statement_timeout", STATEMENT_TIMEOUT),
    ("lock_timeout", LOCK_TIMEOUT),
    // It takes longer than what it would make faster.
    ("jit", "off"),
];
const LARGEST_SECRET: u64 = 64 * 1024;

/// A target's address as a session's proxy needs it.
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) further: Vec<DatabaseHost>,
    pub(super) wanted: SessionAttrs,
    pub(super) database: String,
    pub(super) sslmode: String,
    pub(super) ca_pem: Option<String>,
    pub(super) sslnegotiation: SslNegotiation,
    pub(super) channel_binding: ChannelBindingUse,
    pub(super) client_certificate: Option<ClientCertificate>,
}

impl Address {
    pub(super) fn of(target: &Target, folder: &Path) -> Result<Self, BrokerError> {
        let broken = |why: String| BrokerError::Secret { target: target.name.clone(), why };
        let url = &target.url;
        let query = |name: &str| {
            url.query_pairs().find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
        };
        let ca_pem = match query("sslrootcert") {
            Some(path) => Some(
                std::fs::read_to_string(folder.join(path))
                    .map_err(|error| broken(format!("sslrootcert: {error}")))?,
            ),
            None => None,
        };
        let client_certificate = match (query("sslcert"), query("sslkey")) {
            (Some(certificate), Some(key)) => Some(ClientCertificate {
                chain_pem: std::fs::read_to_string(folder.join(certificate))
                    .map_err(|error| broken(format!("sslcert: {error}")))?,
                key_pem: private_key(&folder.join(key))
                    .map_err(|why| broken(format!("sslkey: {why}")))?,
            }),
            _ => None,
        };
        let place = |url: &Url| {
            let host = url.host_str().ok_or_else(|| broken("its URL has no host".to_owned()))?;
            let host = percent(host.trim_start_matches('[').trim_end_matches(']'));
            Ok::<_, BrokerError>(DatabaseHost { host, port: url.port().unwrap_or(5432) })
        };
        let DatabaseHost { host, port } = place(url)?;
        Ok(Self {
            host,
            port,
            further: target.further.iter().map(place).collect::<Result<_, _>>()?,
            wanted: query("target_session_attrs")
                .and_then(|name| SessionAttrs::named(&name))
                .unwrap_or_default(),
            database: database(url),
            // Nothing that leaves this machine goes unencrypted unless the policy says so.
            sslmode: query("sslmode").unwrap_or_else(|| {
                let local = is_local(url) && target.further.iter().all(is_local);
                if local { "disable" } else { "verify-full" }.to_owned()
            }),
            ca_pem,
            sslnegotiation: match query("sslnegotiation").as_deref() {
                Some("direct") => SslNegotiation::Direct,
                _ => SslNegotiation::Postgres,
            },
            channel_binding: match query("channel_binding").as_deref() {
                Some("disable") => ChannelBindingUse::Disable,
                Some("require") => ChannelBindingUse::Require,
                _ => ChannelBindingUse::Prefer,
            },
            client_certificate,
        })
    }
}

/// Reads a private key from a file that nobody else can: as libpq demands, 0600 where it
/// belongs to us, 0640 where it belongs to root.
fn private_key(path: &Path) -> Result<SecretString, String> {
    let mut file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    // Of the open file: the path may lead elsewhere a moment later.
    let about = file.metadata().map_err(|error| error.to_string())?;
    let others = match about.uid() {
        0 => 0o037,
        owner if owner == rustix::process::geteuid().as_raw() => 0o077,
        _ => return Err("the file belongs to neither pgate's user nor root".to_owned()),
    };
    if !about.is_file() || about.len() > LARGEST_SECRET {
        return Err("it is not a file of a key's size".to_owned());
    }
    if about.mode() & others != 0 {
        return Err("others may read the file; make it private (chmod 600)".to_owned());
    }
    let mut text = Zeroizing::new(String::new());
    file.read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(SecretString::from(text.as_str()))
}

fn percent(text: &str) -> String {
    percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()
}

pub(in crate::server) fn database(url: &Url) -> String {
    percent(url.path().trim_start_matches('/'))
}

/// Whether a URL of a scheme that the URL standard doesn't know points to this machine.
fn is_local(url: &Url) -> bool {
    on_loopback(url)
        || url.host_str().is_none_or(|host| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host.is_empty()
                || host == "localhost"
                || host.starts_with("%2F")
                || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        })
}

/// Where a secret is, as a text that the store may hold.
pub(super) fn reference(secret: &SecretRef) -> String {
    match secret {
        SecretRef::Env(name) => format!("env:{name}"),
        SecretRef::File(path) => format!("file:{}", path.display()),
    }
}

/// The opposite of [`reference()`].
pub(super) fn parse_reference(text: &str) -> Option<SecretRef> {
    match text.split_once(':')? {
        ("env", name) => Some(SecretRef::Env(name.to_owned())),
        ("file", path) => Some(SecretRef::File(path.into())),
        _ => None,
    }
}

/// Reads a secret.
pub(super) fn secret(
    target: &str,
    reference: &SecretRef,
    folder: &Path,
) -> Result<SecretString, BrokerError> {
    let broken = |why: String| BrokerError::Secret { target: target.to_owned(), why };
    match reference {
        SecretRef::Env(name) => match std::env::var(name) {
            Ok(value) if !value.is_empty() => Ok(SecretString::from(value)),
            _ => Err(broken(format!("the environment variable {name} is not set"))),
        },
        SecretRef::File(path) => {
            let path = folder.join(path);
            let failed = |error: std::io::Error| broken(format!("{}: {error}", path.display()));
            if std::fs::metadata(&path).map_err(failed)?.len() > LARGEST_SECRET {
                return Err(broken(format!("{} is too large", path.display())));
            }
            let text = Zeroizing::new(std::fs::read_to_string(&path).map_err(failed)?);
            Ok(SecretString::from(text.trim_end_matches(['\n', '\r']).to_owned()))
        }
    }
}

/// Connects to a target's database as its administrator.
pub(in crate::server) async fn connect(
    target: &Target,
    admin_url: &SecretRef,
    folder: &Path,
) -> Result<PgConnection, BrokerError> {
    connect_as(&target.name, admin_url, folder, Some(&database(&target.url))).await
}

/// The same by the target's name and database; without one, the URL's own.
pub(super) async fn connect_as(
    target: &str,
    admin_url: &SecretRef,
    folder: &Path,
    database: Option<&str>,
) -> Result<PgConnection, BrokerError> {
    // What the broker does as an administrator, it does at a primary.
    let primary = SessionAttrs::ReadWrite;
    connect_by_url(target, &secret(target, admin_url, folder)?, database, primary).await
}

/// The same by the URL itself. Where it names several hosts and doesn't say which will do,
/// those that are as `several` says.
pub(in crate::server) async fn connect_by_url(
    target: &str,
    url: &SecretString,
    database: Option<&str>,
    several: SessionAttrs,
) -> Result<PgConnection, BrokerError> {
    let bad_url = || BrokerError::Secret {
        target: target.to_owned(),
        why: "it is not a PostgreSQL URL (postgres://user:password@host:port/database)".to_owned(),
    };
    let text = url.expose_secret();
    let hosts = host_list(text).ok_or_else(bad_url)?;
    let at_each = text[hosts.clone()].split(',').map(|host| {
        let text = Zeroizing::new([&text[..hosts.start], host, &text[hosts.end..]].concat());
        Url::parse(&text).map_err(|_| bad_url())
    });
    let mut urls = at_each.collect::<Result<Vec<_>, _>>()?;
    let all_local = urls.iter().all(is_local);
    if !all_local && urls.iter().any(may_be_downgraded) {
        return Err(BrokerError::Secret {
            target: target.to_owned(),
            why: "its sslmode (allow, prefer) lets whoever is on the way take the encryption \
                  off; use verify-full"
                .to_owned(),
        });
    }
    let mut wanted = if urls.len() > 1 { several } else { SessionAttrs::Any };
    for url in &mut urls {
        if let Some(said) = take_parameter(url, "target_session_attrs") {
            wanted = SessionAttrs::named(&said).ok_or_else(bad_url)?;
        }
    }
    let each = urls.iter().map(|url| options_of(url, database, all_local).ok_or_else(bad_url));
    first_that_fits(target, &each.collect::<Result<Vec<_>, _>>()?, wanted).await
}

/// Whether a URL asks for a connection that an attacker on the way can have in plain text.
fn may_be_downgraded(url: &Url) -> bool {
    url.query_pairs().any(|(key, value)| {
        matches!(&*key, "sslmode" | "ssl-mode")
            && ["allow", "prefer"].iter().any(|mode| value.eq_ignore_ascii_case(mode))
    })
}

/// Takes a parameter out of a URL.
fn take_parameter(url: &mut Url, name: &str) -> Option<String> {
    let value = url.query_pairs().find(|(key, _)| key == name)?.1.into_owned();
    let rest: Vec<_> = url.query_pairs().filter(|(key, _)| key != name).collect();
    let rest = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(rest).finish();
    url.set_query((!rest.is_empty()).then_some(&rest));
    Some(value)
}

/// How to connect to one host; none where it isn't a PostgreSQL URL.
fn options_of(parsed: &Url, database: Option<&str>, all_local: bool) -> Option<PgConnectOptions> {
    if !matches!(parsed.scheme(), "postgres" | "postgresql") {
        return None;
    }
    let mut options = PgConnectOptions::from_url(parsed)
        .ok()?
        .application_name("pgate broker")
        .options(OPTIONS)
        .disable_statement_logging();
    // Roles are given their privileges where sessions will be.
    if let Some(database) = database {
        options = options.database(database);
    }
    if !parsed.query_pairs().any(|(key, _)| key == "sslmode" || key == "ssl-mode") {
        options =
            options.ssl_mode(if all_local { PgSslMode::Prefer } else { PgSslMode::VerifyFull });
    }
    Some(options)
}

/// Connects to a target's database as the role that all of its sessions share.
pub(in crate::server) async fn connect_as_shared(
    target: &Target,
    user: &str,
    password: Option<&SecretRef>,
    folder: &Path,
) -> Result<PgConnection, BrokerError> {
    let address = Address::of(target, folder)?;
    let mode = match address.sslmode.as_str() {
        "disable" => PgSslMode::Disable,
        "require" => PgSslMode::Require,
        "verify-ca" => PgSslMode::VerifyCa,
        _ => PgSslMode::VerifyFull,
    };
    let mut options = PgConnectOptions::new_without_pgpass()
        .database(&address.database)
        .username(user)
        .ssl_mode(mode)
        .application_name("pgate broker")
        .options(OPTIONS)
        .disable_statement_logging();
    if let Some(password) = password {
        options = options.password(secret(&target.name, password, folder)?.expose_secret());
    }
    if let Some(ClientCertificate { chain_pem, key_pem }) = address.client_certificate {
        options = options
            .ssl_client_cert_from_pem(chain_pem.into_bytes())
            .ssl_client_key_from_pem(key_pem.expose_secret());
    }
    if let Some(pem) = address.ca_pem {
        options = options.ssl_root_cert_from_pem(pem.into_bytes());
    }
    let first = DatabaseHost { host: address.host, port: address.port };
    let hosts = std::iter::once(first).chain(address.further);
    let each: Vec<_> = hosts.map(|at| options.clone().host(&at.host).port(at.port)).collect();
    first_that_fits(&target.name, &each, address.wanted).await
}

/// Runs one statement, whose parts were quoted where it was made.
pub(in crate::server) async fn execute(
    connection: &mut PgConnection,
    sql: String,
) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(connection).await.map(drop)
}

/// What may be told of an error: PostgreSQL's own message, never an address or
/// a credential.
pub(in crate::server) fn told(target: &str, error: sqlx::Error) -> BrokerError {
    let target = target.to_owned();
    match error {
        sqlx::Error::Database(error) => {
            let code = error.code().unwrap_or_default().into_owned();
            let message = error.message().to_owned();
            match code.as_str() {
                "57014" | "55P03" => BrokerError::TimedOut { target },
                "42501" => BrokerError::Rights { target, message },
                "57P03" | "53300" | "57P01" => BrokerError::Unreachable { target, why: message },
                code if code.starts_with("28") || code == "3D000" => {
                    BrokerError::Login { target, message }
                }
                _ => BrokerError::Refused { target, code, message },
            }
        }
        sqlx::Error::Io(error) => {
            BrokerError::Unreachable { target, why: error.kind().to_string() }
        }
        sqlx::Error::Tls(_) => {
            let why = "its TLS certificate isn't accepted, or it speaks no TLS".to_owned();
            BrokerError::Unreachable { target, why }
        }
        _ => BrokerError::Unreachable { target, why: "the connection broke off".to_owned() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::Credential;

    fn target(url: &str) -> Target {
        Target {
            name: "prod-db".into(),
            url: url.parse().unwrap(),
            further: Vec::new(),
            credential: Credential::Static {
                user: "app".into(),
                password: Some(SecretRef::Env("NO_SUCH_VARIABLE".into())),
            },
        }
    }

    #[test]
    fn what_leaves_the_machine_is_verified_unless_the_policy_says_otherwise() {
        let cases = [
            ("postgres://db.internal/shop", "db.internal", 5432, "verify-full"),
            ("postgres://db.internal:6432/shop?sslmode=require", "db.internal", 6432, "require"),
            ("postgres://127.0.0.1:5433/shop", "127.0.0.1", 5433, "disable"),
            ("postgres://localhost/shop", "localhost", 5432, "disable"),
            ("postgres://[::1]:5433/shop", "::1", 5433, "disable"),
            ("postgres://localhost.evil.com/shop", "localhost.evil.com", 5432, "verify-full"),
        ];
        for (url, host, port, sslmode) in cases {
            let address = Address::of(&target(url), Path::new("/nowhere")).unwrap();
            assert_eq!(
                (address.host.as_str(), address.port, address.sslmode.as_str()),
                (host, port, sslmode),
                "{url}"
            );
            assert_eq!(address.database, "shop");
        }
    }

    #[test]
    fn hosts_are_local_only_where_all_of_them_are() {
        let cases = [("[::1]:1", "disable"), ("db.internal", "verify-full")];
        for (second, sslmode) in cases {
            let further = vec![format!("postgres://{second}/shop").parse().unwrap()];
            let target = Target { further, ..target("postgres://localhost/shop") };
            let address = Address::of(&target, Path::new("/nowhere")).unwrap();
            assert_eq!(address.sslmode, sslmode);
            assert_eq!(address.further.len(), 1);
            assert_eq!(second.contains("::1"), address.further[0].host == "::1");
        }
    }

    #[test]
    fn a_client_certificate_is_read_and_its_key_only_from_a_private_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let key = folder.path().join("client.key");
        std::fs::write(folder.path().join("client.crt"), "certificate").unwrap();
        std::fs::write(&key, "hunter2").unwrap();
        let url = "postgres://h/shop?sslmode=require&sslcert=client.crt&sslkey=client.key\
                   &sslnegotiation=direct&channel_binding=require";
        let target = target(url);
        // Root's own keys may be read by a group; these tests may run as root.
        let ours = if rustix::process::geteuid().is_root() { 0o640 } else { 0o600 };
        for (mode, reads) in [(0o600, true), (ours, true), (0o644, false), (0o660, false)] {
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
            match Address::of(&target, folder.path()) {
                Ok(address) => {
                    assert!(reads, "{mode:o}");
                    let shown = address.client_certificate.unwrap();
                    assert_eq!(shown.chain_pem, "certificate");
                    assert_eq!(shown.key_pem.expose_secret(), "hunter2");
                    assert!(!format!("{shown:?}").contains("hunter2"));
                    assert_eq!(address.sslnegotiation, SslNegotiation::Direct);
                    assert_eq!(address.channel_binding, ChannelBindingUse::Require);
                }
                Err(error) => {
                    let error = error.to_string();
                    assert!(!reads && error.contains("chmod 600"), "{mode:o}: {error}");
                }
            }
        }
        std::fs::remove_file(&key).unwrap();
        std::fs::create_dir(&key).unwrap();
        assert!(Address::of(&target, folder.path()).is_err());
    }

    #[tokio::test]
    async fn an_unreachable_or_misconfigured_target_is_told_without_its_password() {
        let folder = tempfile::tempdir().unwrap();
        // A port that nothing listens on, since it has just been given back.
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let cases = [
            (format!("postgres://admin:hunter2@127.0.0.1:{port}/shop"), "can't be reached"),
            ("postgres://admin:hunter2@[::1/shop".to_owned(), "not a PostgreSQL URL"),
            ("mysql://admin:hunter2@127.0.0.1/shop".to_owned(), "not a PostgreSQL URL"),
            ("hunter2".to_owned(), "not a PostgreSQL URL"),
            ("postgres://a:hunter2@h1/shop?sslmode=prefer".to_owned(), "use verify-full"),
            ("postgres://a:hunter2@localhost,h1/db?sslmode=ALLOW".to_owned(), "use verify-full"),
            ("postgres://a:hunter2@h1/db?ssl-mode=prefer".to_owned(), "use verify-full"),
            ("postgres://a:hunter2@h1,h2:x/shop".to_owned(), "not a PostgreSQL URL"),
            (
                "postgres://a:hunter2@h1/db?target_session_attrs=x".to_owned(),
                "not a PostgreSQL URL",
            ),
            (
                format!("postgres://a:hunter2@127.0.0.1:{port},localhost:{port}/shop"),
                "host 1: connection refused; host 2: connection refused",
            ),
        ];
        for (url, expected) in cases {
            std::fs::write(folder.path().join("admin"), format!("{url}\n")).unwrap();
            let file = SecretRef::File("admin".into());
            let error =
                connect(&target("postgres://h/shop"), &file, folder.path()).await.unwrap_err();
            let error = format!("{error} {error:?}");
            assert!(error.contains(expected) && !error.contains("hunter2"), "{error}");
        }
        let unset = SecretRef::Env("PGATE_NO_SUCH_VARIABLE".into());
        let error = connect(&target("postgres://h/shop"), &unset, folder.path()).await.unwrap_err();
        assert!(error.to_string().contains("PGATE_NO_SUCH_VARIABLE is not set"), "{error}");
    }
}
