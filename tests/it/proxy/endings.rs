//! Clients that vanish and sessions that end amid a statement: the log has what became of it.

use serde_json::Value;

use super::*;

/// A moment that a test waits for before the end.
enum Moment {
    /// Something sleeps upstream.
    Sleeps,
    /// PostgreSQL has said so many messages of this type.
    Hears(u8, usize),
}

fn query(sql: &str) -> Vec<u8> {
    bytes(|out| wire::query(sql, out))
}

fn copied(data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len() + 4).unwrap().to_be_bytes();
    [&b"d"[..], &length, data].concat()
}

/// The lines of statements, and of their completions in the order of the statements. Waits for
/// the end of all connections.
async fn outcomes(session: &Session) -> Vec<(String, Value)> {
    let start = Instant::now();
    let log = loop {
        let log = session.log();
        let count = |what: &str| log.iter().filter(|line| line["type"] == what).count();
        if count("connect") == count("disconnect") {
            break log;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "no end in the log");
        sleep(Duration::from_millis(20)).await;
    };
    let of = |what: &'static str| log.iter().filter(move |line| line["type"] == what).cloned();
    let completions = of("completion").collect::<Vec<_>>();
    let outcomes = of("statement").filter(|line| line["protocol"] != "parse").map(|line| {
        let of_it = |done: &&Value| done["statement"] == line["statement"];
        let done = completions.iter().filter(of_it).collect::<Vec<_>>();
        let [done] = done[..] else { panic!("{} completions of {line}", done.len()) };
        (line["sql"].as_str().unwrap().to_owned(), done.clone())
    });
    outcomes.collect()
}

#[tokio::test]
async fn a_client_that_vanishes_amid_a_statement_leaves_its_outcome_in_the_log() {
    let update = "UPDATE again SET item = 'new'; SELECT pg_sleep(30)";
    let sleeps = "SELECT pg_sleep(30)";
    let copy = "COPY again FROM STDIN";
    let pipeline = [
        extended("UPDATE again SET item = 'new'"),
        extended(sleeps),
        extended("UPDATE again SET item = 'newer'"),
    ];
    // (what it sends, when it goes, each statement's tag and SQLSTATE)
    type Case<'a> = (Vec<u8>, Moment, &'a [(&'a str, &'a str)]);
    let cases: [Case<'_>; 8] = [
        (query(update), Moment::Sleeps, &[("UPDATE 2", "57014")]),
        (pipeline.concat(), Moment::Sleeps, &[("UPDATE 2", ""), ("", "57014"), ("", "")]),
        // Each is cancelled in its turn.
        (query(sleeps).repeat(2), Moment::Sleeps, &[("", "57014"), ("", "57014")]),
        (query("SELECT 1 / 0"), Moment::Hears(b'E', 1), &[("", "22012")]),
        (query(copy), Moment::Hears(b'G', 1), &[("", "57014")]),
        (
            [query(copy), copied(b"7\tx\n"), copied(b"8\ty\n")[..7].to_vec()].concat(),
            Moment::Hears(b'G', 1),
            &[("", "57014")],
        ),
        (
            query("SELECT repeat('x', 1000) FROM generate_series(1, 90000)"),
            Moment::Hears(b'D', 5),
            &[("", "57014")],
        ),
        (
            query("COPY (SELECT repeat('x', 1000) FROM generate_series(1, 90000)) TO STDOUT"),
            Moment::Hears(b'd', 5),
            &[("", "57014")],
        ),
    ];
    for (number, (sent, moment, told)) in cases.into_iter().enumerate() {
        let session = Session::start().await;
        session.script("INSERT INTO again VALUES (1, 'old'), (2, 'old')").await;
        let mut raw = session.raw().await;
        let start = Instant::now();
        raw.send(&sent).await;
        match moment {
            Moment::Sleeps => {
                let sleeping =
                    |seen: &[(String, String)]| seen.iter().any(|one| one.1 == "PgSleep");
                session.until_activity(sleeping).await;
            }
            Moment::Hears(tag, times) => {
                for _ in 0..times {
                    raw.until(tag).await;
                }
            }
        }
        drop(raw);
        let outcomes = outcomes(&session).await;
        let found = outcomes[1..].iter().map(|(_, done)| {
            (done["tag"].as_str().unwrap_or(""), done["sqlstate"].as_str().unwrap_or(""))
        });
        assert_eq!(found.collect::<Vec<_>>(), told, "case {number}: {outcomes:?}");
        assert!(start.elapsed() < Duration::from_secs(12), "case {number}: {:?}", start.elapsed());
        let rows = outcomes[1].1["rows"].as_u64().unwrap();
        assert!(rows < 90_000, "case {number}: {rows} rows");
        // What it wrote was never committed.
        let (left, _, _) = session.script("SELECT count(*) FROM again WHERE item = 'old'").await;
        assert_eq!(left, "2\n", "case {number}");
    }
}

#[tokio::test]
async fn a_session_that_ends_amid_statements_has_their_outcomes_in_its_log() {
    let session = Session::start().await;
    let mut killed = session.psql().args(["-c", "SELECT pg_sleep(31)"]).spawn().unwrap();
    let mut told = session.psql().args(["-c", "SELECT pg_sleep(32)"]).spawn().unwrap();
    let sleeping = |count| {
        move |seen: &[(String, String)]| {
            seen.iter().filter(|one| one.1 == "PgSleep").count() == count
        }
    };
    session.until_activity(sleeping(2)).await;
    killed.kill().await.unwrap();
    session.until_activity(sleeping(1)).await;
    let start = Instant::now();
    session.carried.running.ender().end(EndReason::Revoked, "");
    assert!(!told.wait().await.unwrap().success());
    let outcomes = outcomes(&session).await;
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    let found = outcomes.iter().map(|(sql, done)| (sql.as_str(), done["sqlstate"].as_str()));
    let cancelled = Some("57014");
    assert_eq!(
        found.collect::<Vec<_>>(),
        [("SELECT pg_sleep(31)", cancelled), ("SELECT pg_sleep(32)", cancelled)]
    );
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_heard_for_no_longer_than_a_moment() {
    let cluster = harness::cluster().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = cluster.port();
    // Forgets whoever asks to cancel, and says nothing of what sleeps.
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut server = tokio::net::TcpStream::connect(("127.0.0.1", server)).await.unwrap();
            tokio::spawn(async move {
                let mut first = [0; 8];
                client.read_exact(&mut first).await.unwrap();
                if first[4..] == 80_877_102_u32.to_be_bytes() {
                    return;
                }
                server.write_all(&first).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    let database = harness::database().await;
    let access = DatabaseAccess { port, ..access(cluster, &database) };
    let end = Timestamp::now() + SignedDuration::from_hours(1);
    let session = Session::with(access, end, role(ROWS)).await.unwrap();
    let mut raw = session.raw().await;
    raw.send(&query("SELECT pg_sleep(20)")).await;
    let sleeping = |seen: &[(String, String)]| seen.iter().any(|one| one.1 == "PgSleep");
    session.until_activity(sleeping).await;
    let start = Instant::now();
    drop(raw);
    let outcomes = outcomes(&session).await;
    assert_eq!(outcomes[0].1["sqlstate"], "08007");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}
