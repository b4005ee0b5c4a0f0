//! Targets of several hosts: which one a session gets, and what happens when it goes.

use pgate::{api::DatabaseHost, demo::stage};

use super::*;

/// A primary and its hot standby, with a table.
async fn pair() -> (Cluster, Cluster) {
    let settings = [("wal_level", "replica"), ("max_wal_senders", "4")];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec();
    let options = Options { settings, ..Options::default() };
    let primary = Cluster::start(options.clone()).await.expect("a primary");
    let made = "CREATE TABLE orders (id int PRIMARY KEY, item text);
        INSERT INTO orders VALUES (1, 'kept')";
    primary.execute("postgres", made).await.expect("a table");
    let options = Options { standby_of: Some(primary.as_primary()), ..options };
    let standby = Cluster::start(options).await.expect("a standby");
    let start = Instant::now();
    while standby.psql("postgres", "SELECT FROM orders").await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(30), "{}", standby.log());
        sleep(Duration::from_millis(50)).await;
    }
    (primary, standby)
}

/// A port that nothing listens on, since it has just been given back.
fn nobody() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// To the database `postgres` at these ports, in their order, as the superuser of `one`.
fn at(one: &Cluster, ports: &[u16], wanted: &str) -> DatabaseAccess {
    let host = || "127.0.0.1".to_owned();
    DatabaseAccess {
        port: ports[0],
        further: ports[1..].iter().map(|&port| DatabaseHost { host: host(), port }).collect(),
        target_session_attrs: SessionAttrs::named(wanted).unwrap(),
        ..access(one, "postgres")
    }
}

async fn session(access: DatabaseAccess) -> Result<Session, String> {
    let end = Timestamp::now() + SignedDuration::from_hours(1);
    Session::with(access, end, role(ROWS)).await.map_err(|error| error.to_string())
}

/// The port of the server that a new connection of the session gets, or what it is told.
async fn port(session: &Session) -> Result<u16, String> {
    let (out, err, ok) = session.script("SHOW port").await;
    if ok && err.is_empty() { Ok(out.trim().parse().unwrap()) } else { Err(err) }
}

#[tokio::test]
async fn hosts_are_tried_in_order_until_one_is_as_target_session_attrs_says() {
    let (first, second) = pair().await;
    let (primary, standby, dead) = (first.port(), second.port(), nobody());
    let cases: [(&[u16], &str, Result<u16, &str>); 14] = [
        (&[primary, standby], "any", Ok(primary)),
        (&[standby, primary], "any", Ok(standby)),
        (&[dead, standby, primary], "any", Ok(standby)),
        (&[dead, standby, primary], "read-write", Ok(primary)),
        (&[standby, dead, primary], "primary", Ok(primary)),
        (&[primary, standby], "standby", Ok(standby)),
        (&[primary, standby], "read-only", Ok(standby)),
        (&[primary, standby], "prefer-standby", Ok(standby)),
        (&[dead, primary], "prefer-standby", Ok(primary)),
        (&[primary], "prefer-standby", Ok(primary)),
        (&[primary], "standby", Err("is a primary, and the target's URL says")),
        (&[standby, dead], "primary", Err("target_session_attrs=primary; the database at")),
        (&[dead, standby], "read-write", Err("is a standby, and the target's URL says")),
        (&[dead, dead], "any", Err("none of the database's hosts will do: the database at")),
    ];
    for (ports, wanted, expected) in cases {
        let told = match session(at(&first, ports, wanted)).await {
            Ok(session) => port(&session).await,
            Err(error) => Err(error),
        };
        match (&told, expected) {
            (Ok(got), Ok(port)) => assert_eq!(*got, port, "{ports:?} {wanted}"),
            (Err(told), Err(part)) => assert!(told.contains(part), "{ports:?} {wanted}: {told}"),
            _ => panic!("{ports:?} {wanted}: {told:?} instead of {expected:?}"),
        }
    }
    // One that has no choice has nothing to say of it.
    let one = session(at(&first, &[primary], "any")).await.unwrap();
    one.script("SELECT 1").await;
    assert!(one.log().iter().all(|line| line["type"] != "host"));
    // Who is refused by one isn't sent on to the next.
    let wrong =
        DatabaseAccess { password: "wrong".into(), ..at(&first, &[primary, standby], "any") };
    let told = session(wrong).await.err().unwrap();
    assert!(told.contains("28P01") && !told.contains("none of"), "{told}");
}

#[tokio::test]
async fn what_is_cancelled_is_cancelled_at_the_host_where_it_runs() {
    let (first, second) = pair().await;
    let ports = [second.port(), first.port()];
    let session = session(at(&first, &ports, "primary")).await.unwrap();
    let mut client = session.psql();
    let running = client.args(["-c", "SELECT pg_sleep(60)"]).spawn().unwrap();
    let start = Instant::now();
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    while first.psql("postgres", sleeps).await.unwrap().trim() != "1" {
        assert!(start.elapsed() < Duration::from_secs(20), "it never began");
        sleep(Duration::from_millis(50)).await;
    }
    let process = rustix::process::Pid::from_raw(running.id().unwrap().try_into().unwrap());
    rustix::process::kill_process(process.unwrap(), rustix::process::Signal::INT).unwrap();
    let output = timeout(Duration::from_secs(20), running.wait_with_output()).await;
    let output = output.expect("it is cancelled").unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(told.contains("canceling statement due to user request"), "{told}");
}

#[tokio::test]
async fn a_session_outlives_its_primary_where_a_standby_takes_over() {
    let (first, second) = pair().await;
    let ports = [first.port(), second.port()];
    let reading = session(at(&first, &ports, "any")).await.unwrap();
    let writing = session(at(&first, &ports, "read-write")).await.unwrap();
    for session in [&reading, &writing] {
        assert_eq!(port(session).await.unwrap(), ports[0]);
    }
    let mut open = writing.raw().await;
    drop(first);

    // Who was connected there is told; the next connection finds the other host.
    open.send(&bytes(|out| wire::query("SELECT 1", out))).await;
    let ended = open.until(b'Z').await;
    assert!(!ended.iter().any(|message| message[0] == b'Z'), "{ended:?}");
    assert_eq!(port(&reading).await.unwrap(), ports[1]);
    assert_eq!(reading.script("SELECT item FROM orders").await.0, "kept\n");
    let told = port(&writing).await.unwrap_err();
    let parts = ["none of the database's hosts will do", "can't be reached", "is a standby"];
    assert!(parts.iter().all(|part| told.contains(part)), "{told}");

    second.execute("postgres", "SELECT pg_promote()").await.unwrap();
    let insert = "INSERT INTO orders VALUES (2, 'after') RETURNING item";
    let (out, err, ok) = writing.script(insert).await;
    assert!(ok && out == "after\n", "{out} {err}");
    // It is the same session: its connections to both are in one log.
    let ends = writing.log().iter().filter(|line| line["type"] == "disconnect").count();
    assert!(ends >= 3, "{:?}", writing.log());
    let log = writing.log();
    let of = |what: &'static str| log.iter().filter(move |line| line["type"] == what);
    let reached = of("host").map(|line| line["host"].as_str().unwrap()).collect::<Vec<_>>();
    let [one, other] = ports.map(|port| format!("127.0.0.1:{port}"));
    assert_eq!((reached[0], reached[reached.len() - 1]), (&one[..], &other[..]));
    for line in of("host") {
        let number = &line["connection"];
        let mut its = log.iter().filter(|other| other["connection"] == *number);
        assert_eq!(its.next().unwrap()["type"], "connect");
        assert_eq!(its.next().unwrap(), line, "ahead of everything else");
    }
}

const POLICY: &str = r#"
[role.keeper]
about = "Writes orders"
targets = ["pair"]
ttl = "1h"
allow = [{ actions = ["select", "insert"], on = ["public.*"] }]

[[access]]
who = { group = "engineering" }
role = "keeper"
target = "pair"
approval = "auto"
"#;

#[tokio::test]
async fn the_control_plane_makes_roles_at_the_primary_whichever_host_it_is() {
    let stage = harness::own_stage(stage::Options::default()).await;
    let (first, second) = pair().await;
    let folder = stage.server_folder().join("policy");
    let hosts = [nobody(), second.port(), first.port()].map(|port| format!("127.0.0.1:{port}"));
    let hosts = hosts.join(",");
    let admin = first.admin_url();
    let one = format!("127.0.0.1:{}", first.port());
    let admin = admin.expose_secret().replace(&one, &hosts);
    assert!(admin.contains(&hosts));
    std::fs::write(folder.join("pair.url"), admin).unwrap();
    let target = format!(
        "[target.pair]\nurl = \"postgres://{hosts}/postgres?target_session_attrs=read-write\"\n\
         credential = {{ kind = \"ephemeral\", admin_url = \"file:pair.url\" }}\n"
    );
    std::fs::write(folder.join("pair.toml"), target + POLICY).unwrap();
    let start = Instant::now();
    while !harness::run(&stage, "ana", &["targets"]).stdout.contains("keeper") {
        assert!(start.elapsed() < Duration::from_secs(20), "{}", stage.server_log());
        sleep(Duration::from_millis(50)).await;
    }
    let arguments = ["connect", "pair", "--role", "keeper", "--reason", "hosts", "--", "psql"];
    let insert = "INSERT INTO orders VALUES (2, 'there') RETURNING item";
    let psql = ["-XAtqc", "SHOW port", "-c", insert];
    let done = harness::run(&stage, "ana", &[&arguments[..], &psql].concat()).exits(0);
    assert_eq!(done.stdout, format!("{}\nthere\n", first.port()));
    let roles = "SELECT count(*) FROM pg_roles WHERE rolcanlogin AND rolname <> 'postgres'";
    assert_eq!(first.psql("postgres", roles).await.unwrap(), "0\n", "it has been dropped there");
}
