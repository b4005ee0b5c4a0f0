//! Servers that go, and servers that speak nonsense in the middle of a session: the client
//! is told, the log is complete, the session's other connections go on.

use std::sync::Mutex;

use rustix::process::{Pid, Signal, kill_process};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// What stands between pgate and PostgreSQL, and says what it is told to say.
struct Between {
    port: u16,
    next: Arc<Mutex<Vec<u8>>>,
}

/// A statement that holds this is answered with nonsense, which the connection ends with.
const INSTEAD: &str = "/* instead */";
/// A statement that holds this is answered, and the nonsense follows.
const AFTERWARDS: &str = "/* afterwards */";

impl Between {
    async fn before(cluster: &Cluster) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let next = Arc::new(Mutex::new(Vec::new()));
        let (server, says) = (cluster.port(), Arc::clone(&next));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                tokio::spawn(Self::carry(client, server, Arc::clone(&says)));
            }
        });
        Self { port, next }
    }

    async fn carry(mut client: TcpStream, mut server: TcpStream, says: Arc<Mutex<Vec<u8>>>) {
        let (mut asked, mut answered) = (vec![0; 65536], vec![0; 65536]);
        let mut last = false;
        loop {
            tokio::select! {
                read = client.read(&mut asked) => {
                    let Ok(length @ 1..) = read else { return };
                    let holds = |mark: &str| {
                        asked[..length].windows(mark.len()).any(|part| part == mark.as_bytes())
                    };
                    if holds(INSTEAD) {
                        let bytes = says.lock().unwrap().clone();
                        let _ = client.write_all(&bytes).await;
                        return;
                    }
                    last = holds(AFTERWARDS);
                    let _ = server.write_all(&asked[..length]).await;
                }
                read = server.read(&mut answered) => {
                    let Ok(length @ 1..) = read else { return };
                    let _ = client.write_all(&answered[..length]).await;
                    if last && answered[..length].ends_with(b"Z\0\0\0\x05I") {
                        sleep(Duration::from_millis(50)).await;
                        let bytes = says.lock().unwrap().clone();
                        let _ = client.write_all(&bytes).await;
                        return;
                    }
                }
            }
        }
    }

    fn says(&self, bytes: &[u8]) {
        *self.next.lock().unwrap() = bytes.to_vec();
    }
}

/// The end of the latest connection as the log has it; waits for it.
async fn last_end(session: &Session, connections: usize) -> String {
    let start = Instant::now();
    loop {
        let log = session.log();
        let ends: Vec<_> = log.iter().filter(|line| line["type"] == "disconnect").collect();
        if ends.len() >= connections {
            return ends[connections - 1]["reason"].as_str().unwrap().to_owned();
        }
        assert!(start.elapsed() < Duration::from_secs(20), "no end in the log");
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn nonsense_of_the_server_ends_the_connection_with_an_error_and_a_line_in_the_log() {
    let cluster = harness::cluster().await;
    let between = Between::before(cluster).await;
    let database = harness::database().await;
    let access = DatabaseAccess { port: between.port, ..access(cluster, &database) };
    let end = Timestamp::now() + SignedDuration::from_hours(1);
    let session = Session::with(access, end, role(ROWS)).await.unwrap();
    // (what the server says, what the client is told)
    let broken = "the database broke the protocol";
    let closed = "the database closed the connection";
    let instead: [(&[u8], &str); 25] = [
        (b"", closed),
        (b"D", closed),
        (b"D\0\x01", closed),
        (b"HTTP/1.1 500\r\n\r\n", broken),
        (b"\x15\x03\x01\0\x02\x02\x28", broken),
        (b"\0\0\0\0\0\0\0\0", broken),
        (b"Z\0\0\0\x03", broken),
        (b"Z\0\0\0\x05X", broken),
        (b"Z\0\0\0\x04", broken),
        // Without masks nobody but the client reads what the columns are.
        (b"T\0\0\0\x05\0", closed),
        (b"T\0\0\0\x06\xff\xff", closed),
        (b"T\x3f\xff\xff\xff", broken),
        (b"A\x3f\xff\xff\xff", broken),
        (b"T\xff\xff\xff\xff", broken),
        (b"C\0\0\0\x04", broken),
        (b"C\0\0\0\x06\xff\0", broken),
        (b"E\0\0\0\x04", broken),
        (b"E\0\0\0\x06SX", broken),
        (b"N\0\0\0\x06SX", broken),
        (b"S\0\0\0\x06ab", broken),
        (b"R\0\0\0\x08\0\0\0\0", broken),
        (b"1\0\0\0\x04", broken),
        (b"d\0\0\0\x05x", broken),
        (b"W\0\0\0\x07\0\0\0", broken),
        (b"?\0\0\0\x04", broken),
    ];
    let afterwards: [(&[u8], &str); 7] = [
        (b"", closed),
        (b"C\0\0\0\x0dSELECT 1\0", broken),
        (b"D\0\0\0\x06\0\0", broken),
        (b"T\0\0\0\x06\0\0", broken),
        (b"2\0\0\0\x04", broken),
        (b"G\0\0\0\x07\0\0\0", broken),
        (b"K\0\0\0\x0c\0\0\0\x01\0\0\0\x01", broken),
    ];
    let instead = instead.into_iter().map(|case| (INSTEAD, case));
    let all = instead.chain(afterwards.into_iter().map(|case| (AFTERWARDS, case)));
    for (number, (mark, (bytes, said))) in all.enumerate() {
        between.says(bytes);
        let mut raw = session.raw().await;
        raw.send(&self::bytes(|out| wire::query(&format!("SELECT 1 {mark}"), out))).await;
        let messages = raw.until(b'?').await;
        let last = messages.last().unwrap_or_else(|| panic!("case {number}: nothing"));
        assert_eq!(last[0], b'E', "case {number} {bytes:?}: {messages:?}");
        let fields = ErrorFields::parse(last).unwrap();
        let what = fields.message();
        assert!(fields.is_fatal() && what.contains(said), "case {number} {bytes:?}: {what}");
        let state = if said == closed { "08006" } else { "08P01" };
        assert_eq!(fields.sqlstate(), state, "case {number}");
        assert!(last_end(&session, number + 1).await.contains(said));
    }
    // Cut within a row, there is nothing to be told in: the end itself says it.
    between.says(b"T\0\0\0\x1a\0\x01a\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0D\0\0\x01\0\0\x01\0\0\0\xf0abc");
    let mut raw = session.raw().await;
    raw.send(&bytes(|out| wire::query(&format!("SELECT 1 {INSTEAD}"), out))).await;
    assert_eq!(tags(&raw.until(b'?').await), "T");
    assert_eq!(session.script("SELECT 'alive';\n").await.0, "alive\n");
    // Every connection has its end, and nothing of it was taken for a leak.
    let log = session.log();
    let count = |kind: &str| log.iter().filter(|line| line["type"] == kind).count();
    last_end(&session, count("connect")).await;
    assert_eq!(count("alert"), 0);
}

fn tags(messages: &[Vec<u8>]) -> String {
    messages.iter().map(|message| char::from(message[0])).collect()
}

/// What a connection is told at its end: SQLSTATE and message.
async fn farewell(raw: &mut Raw) -> (String, String) {
    let messages = raw.until(b'?').await;
    let error = messages.iter().rev().find(|message| message[0] == b'E').expect("an error");
    let fields = ErrorFields::parse(error).unwrap();
    assert!(fields.is_fatal(), "{fields:?}");
    (fields.sqlstate().to_owned(), fields.message().to_owned())
}

/// A statement that runs, and an idle connection beside it.
async fn busy_and_idle(session: &Session) -> [Raw; 2] {
    let (mut busy, mut idle) = (session.raw().await, session.raw().await);
    busy.send(&bytes(|out| wire::query("SELECT pg_sleep(60)", out))).await;
    idle.send(&bytes(|out| wire::query("BEGIN", out))).await;
    idle.until(b'Z').await;
    [busy, idle]
}

async fn until_asleep(cluster: &Cluster) {
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    let start = Instant::now();
    while cluster.psql("postgres", sleeping).await.unwrap() != "1\n" {
        assert!(start.elapsed() < Duration::from_secs(20));
        sleep(Duration::from_millis(50)).await;
    }
}

/// Checks that the log tells of both connections' ends, and of the statement's.
async fn log_tells(session: &Session, sqlstate: &str) {
    last_end(session, 2).await;
    let log = session.log();
    let slept = log.iter().find(|line| {
        line["type"] == "statement" && line["sql"].as_str().unwrap().contains("pg_sleep")
    });
    let slept = &slept.expect("the statement")["statement"];
    let done = log
        .iter()
        .find(|line| line["type"] == "completion" && line["statement"] == *slept)
        .expect("its completion");
    assert_eq!(done["sqlstate"], sqlstate);
    session.carried.spool.checkpoint(Timestamp::now()).expect("the log goes on");
}

#[tokio::test]
async fn a_terminated_backend_is_told_as_postgresql_tells_it() {
    let session = Session::start().await;
    let [mut busy, mut idle] = busy_and_idle(&session).await;
    session.until_activity(|all| all.iter().any(|(_, event)| event == "PgSleep")).await;
    let terminate = format!(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = '{}' AND application_name LIKE 'pgate%'",
        session.database
    );
    harness::cluster().await.execute("postgres", &terminate).await.unwrap();
    for raw in [&mut busy, &mut idle] {
        let (state, what) = farewell(raw).await;
        assert_eq!(state, "57P01", "{what}");
        assert!(what.contains("terminating connection due to administrator command"), "{what}");
    }
    log_tells(&session, "57P01").await;
    // pgate's own connection went with them, and is made again.
    assert_eq!(session.script("SELECT count(*) FROM orders;\n").await.0, "1000\n");
}

async fn shut_down(signal: Signal) -> (Session, Cluster, [(String, String); 2]) {
    let cluster = Cluster::start(Options::default()).await.unwrap();
    let end = Timestamp::now() + SignedDuration::from_hours(1);
    let session = Session::with(access(&cluster, "postgres"), end, role(ROWS)).await.unwrap();
    let [mut busy, mut idle] = busy_and_idle(&session).await;
    until_asleep(&cluster).await;
    let file = cluster.socket_folder().join("data/postmaster.pid");
    let pid = std::fs::read_to_string(file).unwrap().lines().next().unwrap().parse().unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
    let told = [farewell(&mut busy).await, farewell(&mut idle).await];
    (session, cluster, told)
}

#[tokio::test]
async fn a_fast_shutdown_is_told_and_later_clients_learn_that_nobody_is_there() {
    let (session, _cluster, told) = shut_down(Signal::INT).await;
    for (state, what) in told {
        assert_eq!(state, "57P01", "{what}");
    }
    log_tells(&session, "57P01").await;
    let start = Instant::now();
    loop {
        let (_, err, ok) = session.script("SELECT 1;\n").await;
        assert!(!ok && err.contains("pgate could not open the database session"), "{err}");
        if err.contains("can't be reached") {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{err}");
    }
    session.carried.running.finish(EndReason::Closed, "").await;
}

#[tokio::test]
async fn an_immediate_shutdown_is_told_too() {
    let (session, _cluster, told) = shut_down(Signal::QUIT).await;
    for (state, what) in told {
        assert!(["57P01", "57P02", "08006"].contains(&state.as_str()), "{state} {what}");
    }
    last_end(&session, 2).await;
    assert!(session.script("SELECT 1;\n").await.1.contains("pgate could not open"));
}
