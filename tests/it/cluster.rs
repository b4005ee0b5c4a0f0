//! The throwaway PostgreSQL cluster that everything else stands on.

use std::{
    io::{BufRead as _, BufReader},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use pgate::demo::cluster::{Cluster, Options, ServerTls};
use secrecy::ExposeSecret as _;
use sqlx::{ConnectOptions as _, Connection as _, postgres::PgConnectOptions};

use crate::harness;

/// Waits for `condition`, for at most `seconds`.
fn within(seconds: u64, mut condition: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(seconds) {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    condition()
}

fn gone(folder: &Path, port: u16) -> bool {
    !folder.exists() && TcpStream::connect(("127.0.0.1", port)).is_err()
}

#[tokio::test]
async fn a_cluster_serves_by_password_only_and_leaves_nothing_behind() {
    let cluster = Cluster::start(Options::default()).await.unwrap();
    let (folder, port) = (cluster.socket_folder().to_owned(), cluster.port());

    cluster.execute("postgres", "CREATE TABLE t (n int); INSERT INTO t VALUES (41)").await.unwrap();
    assert_eq!(cluster.psql("postgres", "SELECT n + 1 FROM t").await.unwrap(), "42\n");
    let refused = cluster.psql("postgres", "SELECT 1; SELECT nonsense; SELECT 2").await;
    assert!(refused.unwrap_err().to_string().contains("nonsense"));

    let url = cluster.admin_url();
    let wrong = url.expose_secret().replacen("postgres:", "postgres:wrong", 2);
    for url in [wrong, format!("postgres://postgres@127.0.0.1:{port}/postgres")] {
        let options: PgConnectOptions = url.parse().unwrap();
        assert!(options.connect().await.is_err());
    }
    let options: PgConnectOptions = url.expose_secret().parse().unwrap();
    options.connect().await.unwrap().close().await.unwrap();

    drop(cluster);
    assert!(gone(&folder, port));
}

#[tokio::test]
async fn a_cluster_serves_tls_with_the_certificate_that_it_is_given() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let tls =
        ServerTls { certificate: made.cert.pem(), key: made.signing_key.serialize_pem().into() };
    let settings = vec![("log_connections".to_owned(), "on".to_owned())];
    let options = Options { tls: Some(tls), settings, ..Options::default() };
    let cluster = Cluster::start(options).await.unwrap();
    let url = cluster.admin_url().expose_secret().replace("127.0.0.1", "localhost");
    let url = format!("{url}?sslmode=verify-full&sslrootcert={}", ca.display());
    let mut connection = url.parse::<PgConnectOptions>().unwrap().connect().await.unwrap();
    let encrypted: bool =
        sqlx::query_scalar("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert!(encrypted);
    assert!(cluster.log().contains("connection authorized"), "{}", cluster.log());
}

/// Not a test: what the next one kills.
#[tokio::test]
#[ignore = "run by the test that kills it"]
async fn holds_a_cluster_until_it_is_killed() {
    let cluster = Cluster::start(Options::default()).await.unwrap();
    println!("holding {} {}", cluster.port(), cluster.socket_folder().display());
    std::future::pending::<()>().await;
}

#[test]
fn a_cluster_goes_with_the_process_that_held_it_even_when_that_is_killed() {
    let mut holder = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "cluster::holds_a_cluster_until_it_is_killed"])
        .args(["--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let (port, folder) = BufReader::new(holder.stdout.take().unwrap())
        .lines()
        .find_map(|line| {
            let line = line.unwrap();
            let (_, found) = line.split_once("holding ")?;
            let (port, folder) = found.split_once(' ')?;
            Some((port.parse::<u16>().unwrap(), PathBuf::from(folder)))
        })
        .unwrap();
    assert!(folder.join("data").exists());
    holder.kill().unwrap();
    holder.wait().unwrap();
    assert!(within(20, || gone(&folder, port)), "{} is still there", folder.display());
}

#[tokio::test]
async fn every_test_gets_a_database_of_its_own_in_the_shared_cluster() {
    let (one, other) = (harness::database().await, harness::database().await);
    let cluster = harness::cluster().await;
    cluster.execute(&one, "CREATE TABLE mine ()").await.unwrap();
    let seen = cluster.psql(&other, "SELECT to_regclass('mine') IS NULL").await.unwrap();
    assert_eq!(seen, "t\n");
}
