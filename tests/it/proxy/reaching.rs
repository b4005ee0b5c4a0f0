//! How a session reaches PostgreSQL: every way in which a server may ask who we are, and
//! every way in which TLS may begin.

use std::os::unix::fs::PermissionsExt as _;

use pgate::api::ClientCertificate;
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use super::*;

/// A cluster with TLS whose pg_hba.conf asks every role in another way, and what a client
/// needs to be believed.
struct Asking {
    cluster: Cluster,
    server: String,
    certificate: ClientCertificate,
}

const ROLES: &str = "
    CREATE ROLE scrammed LOGIN PASSWORD 'hunter2';
    CREATE ROLE spoken LOGIN PASSWORD 'hunter2';
    CREATE ROLE certified LOGIN;
    CREATE ROLE twofold LOGIN PASSWORD 'hunter2';
    CREATE ROLE trusted LOGIN;
    SET password_encryption = 'md5';
    CREATE ROLE digested LOGIN PASSWORD 'hunter2';
";

const HBA: &str = "
local all all scram-sha-256
host all postgres 127.0.0.1/32 scram-sha-256
host all scrammed 127.0.0.1/32 scram-sha-256
host all digested 127.0.0.1/32 md5
host all spoken 127.0.0.1/32 password
hostssl all certified 127.0.0.1/32 cert
hostssl all twofold 127.0.0.1/32 scram-sha-256 clientcert=verify-ca
host all trusted 127.0.0.1/32 trust
";

impl Asking {
    async fn start() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let server = made.cert.pem();
        let key = SecretString::from(made.signing_key.serialize_pem());
        let tls = Some(ServerTls { certificate: server.clone(), key });
        let cluster = Cluster::start(Options { tls, ..Options::default() }).await.unwrap();

        let authority = KeyPair::generate().unwrap();
        let mut about = CertificateParams::new(Vec::new()).unwrap();
        about.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        about.distinguished_name.push(DnType::CommonName, "an authority");
        let ca = about.self_signed(&authority).unwrap().pem();
        let issuer = Issuer::new(about, authority);
        let key = KeyPair::generate().unwrap();
        let mut about = CertificateParams::new(Vec::new()).unwrap();
        about.distinguished_name.push(DnType::CommonName, "certified");
        about.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        let chain_pem = about.signed_by(&key, &issuer).unwrap().pem();
        let certificate = ClientCertificate { chain_pem, key_pem: key.serialize_pem().into() };

        let file = cluster.socket_folder().join("ca.pem");
        std::fs::write(&file, ca).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        cluster.execute("postgres", ROLES).await.unwrap();
        let authority = format!("ALTER SYSTEM SET ssl_ca_file = '{}'", file.display());
        cluster.execute("postgres", &authority).await.unwrap();
        std::fs::write(cluster.socket_folder().join("data/pg_hba.conf"), HBA).unwrap();
        cluster.execute("postgres", "SELECT pg_reload_conf()").await.unwrap();
        let asking = Self { cluster, server, certificate };
        // The postmaster reads its files when it gets round to it.
        let start = Instant::now();
        while asking.login(asking.to("trusted")).await.is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "{}", asking.cluster.log());
            sleep(Duration::from_millis(100)).await;
        }
        asking
    }

    /// To the database as this role, with TLS that is checked.
    fn to(&self, user: &str) -> DatabaseAccess {
        DatabaseAccess {
            host: "localhost".into(),
            user: user.into(),
            password: SecretString::from("hunter2"),
            sslmode: "verify-full".into(),
            ca_pem: Some(self.server.clone()),
            ..access(&self.cluster, "postgres")
        }
    }

    /// What the server says of a session's own connection.
    async fn login(&self, access: DatabaseAccess) -> Result<String, String> {
        let end = Timestamp::now() + SignedDuration::from_hours(1);
        let session = Session::with(access, end, role(ROWS)).await.map_err(|e| e.to_string())?;
        let (out, err, ok) = session.script("SELECT current_user;\n").await;
        if ok && err.is_empty() { Ok(out.trim().to_owned()) } else { Err(err) }
    }

    async fn version(&self) -> u32 {
        let shown = self.cluster.psql("postgres", "SHOW server_version_num").await.unwrap();
        shown.trim().parse::<u32>().unwrap() / 10_000
    }
}

#[tokio::test]
async fn a_server_is_answered_as_it_asks_and_told_no_more_than_it_may_know() {
    let asking = Asking::start().await;
    let shown = Some(asking.certificate.clone());
    let unchecked = |user| DatabaseAccess {
        sslmode: "require".into(),
        ca_pem: None,
        host: "127.0.0.1".into(),
        ..asking.to(user)
    };
    let plain = |user| DatabaseAccess {
        sslmode: "disable".into(),
        ca_pem: None,
        host: "127.0.0.1".into(),
        ..asking.to(user)
    };
    let binding = |channel_binding, access| DatabaseAccess { channel_binding, ..access };
    let bound = |access| binding(ChannelBindingUse::Require, access);
    let with = |access| DatabaseAccess { client_certificate: shown.clone(), ..access };
    let bare = |access| DatabaseAccess { password: SecretString::from(""), ..access };
    let cases = [
        (asking.to("scrammed"), Ok("scrammed")),
        (unchecked("scrammed"), Ok("scrammed")),
        (plain("scrammed"), Ok("scrammed")),
        (bound(asking.to("scrammed")), Ok("scrammed")),
        (bound(unchecked("scrammed")), Ok("scrammed")),
        (binding(ChannelBindingUse::Disable, asking.to("scrammed")), Ok("scrammed")),
        (bound(plain("scrammed")), Err("there is no TLS")),
        (bare(asking.to("scrammed")), Err("the target's credential has none")),
        (asking.to("digested"), Ok("digested")),
        (plain("digested"), Ok("digested")),
        (bound(asking.to("digested")), Err("it asks for no SCRAM")),
        (asking.to("spoken"), Ok("spoken")),
        (unchecked("spoken"), Err("cleartext password without a look at its certificate")),
        (plain("spoken"), Err("cleartext password without TLS")),
        (bound(asking.to("spoken")), Err("it asks for no SCRAM")),
        (bare(with(asking.to("certified"))), Ok("certified")),
        (bound(with(asking.to("certified"))), Err("it asks for no SCRAM")),
        (asking.to("certified"), Err("valid client certificate")),
        (with(asking.to("twofold")), Ok("twofold")),
        (bound(with(asking.to("twofold"))), Ok("twofold")),
        (asking.to("twofold"), Err("valid client certificate")),
        (asking.to("trusted"), Ok("trusted")),
        (bound(asking.to("trusted")), Err("it asks for no SCRAM")),
    ];
    for (number, (access, expected)) in cases.into_iter().enumerate() {
        let found = asking.login(access).await;
        match expected {
            Ok(user) => assert_eq!(found.as_deref(), Ok(user), "case {number}"),
            Err(said) => {
                let error = found.expect_err(said);
                assert!(error.contains(said), "case {number}: {error}");
                assert!(!error.contains("hunter2"));
            }
        }
    }
    // Bound by the certificate: said by the server itself, where it says so.
    let log = asking.cluster.log();
    assert!(!log.contains("channel binding check failed"), "{log}");
}

#[tokio::test]
async fn a_client_certificate_that_cannot_be_used_is_named() {
    let made = rcgen::generate_simple_self_signed(["client".to_owned()]).unwrap();
    let other = KeyPair::generate().unwrap();
    let pem = made.cert.pem();
    let cases = [
        ("no certificate", pem.clone(), "no key".to_owned(), "key (sslkey)"),
        (
            "encrypted",
            pem.clone(),
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n"
                .to_owned(),
            "it is encrypted",
        ),
        ("another's key", pem, other.serialize_pem(), "certificate (sslcert)"),
        ("nothing", String::new(), made.signing_key.serialize_pem(), "certificate (sslcert)"),
    ];
    for (name, chain_pem, key_pem, said) in cases {
        let access = DatabaseAccess {
            host: "localhost".into(),
            port: 1,
            sslmode: "require".into(),
            client_certificate: Some(ClientCertificate { chain_pem, key_pem: key_pem.into() }),
            ..access(harness::cluster().await, "postgres")
        };
        let error = UpstreamConfig::new(&access).expect_err(name).to_string();
        assert!(error.contains(said), "{name}: {error}");
    }
}

#[tokio::test]
async fn tls_may_begin_at_once_from_postgresql_17_on_and_cancelling_goes_the_same_way() {
    let asking = Asking::start().await;
    let direct = DatabaseAccess { sslnegotiation: SslNegotiation::Direct, ..asking.to("scrammed") };
    let direct = DatabaseAccess { channel_binding: ChannelBindingUse::Require, ..direct };
    let started = asking.login(direct.clone()).await;
    if asking.version().await < 17 {
        let error = started.unwrap_err();
        assert!(error.contains("takes PostgreSQL 17 or newer"), "{error}");
        return;
    }
    assert_eq!(started.as_deref(), Ok("scrammed"));
    cancels(&asking, direct).await;
}

#[tokio::test]
async fn ctrl_c_cancels_over_tls_too() {
    let asking = Asking::start().await;
    cancels(&asking, asking.to("scrammed")).await;
}

async fn cancels(asking: &Asking, access: DatabaseAccess) {
    let end = Timestamp::now() + SignedDuration::from_hours(1);
    let session = Session::with(access, end, role(ROWS)).await.unwrap();
    let child = session.psql().args(["--command=SELECT pg_sleep(60)"]).spawn().unwrap();
    let sleeping = "SELECT count(*) FROM pg_stat_activity a JOIN pg_stat_ssl s USING (pid)
                    WHERE wait_event = 'PgSleep' AND s.ssl AND usename = 'scrammed'";
    let start = Instant::now();
    while asking.cluster.psql("postgres", sleeping).await.unwrap() != "1\n" {
        assert!(start.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(50)).await;
    }
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    let output = timeout(Duration::from_secs(20), child.wait_with_output()).await.unwrap().unwrap();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(err.contains("canceling statement due to user request"), "{err}");
    assert_eq!(asking.cluster.psql("postgres", sleeping).await.unwrap(), "0\n");
}
