//! TLS renegotiation (TLS 1.2), which pgate never does: a server that asks for it is told no,
//! and clients of a session are offered no TLS at all. OpenSSL plays the other side.

use std::process::Command as Blocking;

use super::*;

fn openssl() -> bool {
    let there = Blocking::new("openssl").arg("version").output().is_ok();
    assert!(there || std::env::var_os("PGATE_TEST_ALL").is_none(), "openssl is not installed");
    if !there {
        eprintln!("skipped: openssl is not installed; `tests/run` installs it and runs this test");
    }
    there
}

fn openssl_with(arguments: impl FnOnce(&mut Command) -> &mut Command) -> tokio::process::Child {
    arguments(&mut Command::new("openssl"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_client_that_wants_tls_is_told_no_and_harms_nobody() {
    if !openssl() {
        return;
    }
    let session = Session::start().await;
    let address = format!("127.0.0.1:{}", session.endpoints().port);
    let mut client = openssl_with(|openssl| {
        openssl.args(["s_client", "-starttls", "postgres", "-tls1_2", "-connect", &address])
    });
    let mut stdin = client.stdin.take().unwrap();
    // s_client renegotiates at a line that begins with R.
    let _ = stdin.write_all(b"R\n").await;
    let ended = timeout(Duration::from_secs(10), client.wait_with_output()).await;
    let ended = ended.expect("it doesn't hang").unwrap();
    let told = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(!ended.status.success() && !told.contains("BEGIN CERTIFICATE"), "{told}");
    assert_eq!(session.script("SELECT 'alive'").await.0, "alive\n");
}

#[tokio::test]
async fn a_server_that_wants_to_renegotiate_is_told_no() {
    if !openssl() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("crt"), folder.path().join("key"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.local_addr().unwrap().port()
    };
    let mut server = openssl_with(|openssl| {
        let openssl = openssl.args(["s_server", "-tls1_2", "-alpn", "postgresql", "-accept"]);
        let openssl = openssl.arg(format!("127.0.0.1:{port}"));
        openssl.arg("-cert").arg(&certificate).arg("-key").arg(&key)
    });
    let mut stdin = server.stdin.take().unwrap();
    let mut stdout = server.stdout.take().unwrap();
    let said = tokio::spawn(async move {
        let (mut said, mut part) = (Vec::new(), [0; 4096]);
        let mut asked = false;
        while let Ok(length @ 1..) = stdout.read(&mut part).await {
            said.extend_from_slice(&part[..length]);
            let so_far = String::from_utf8_lossy(&said);
            if !asked && so_far.contains("shopX") {
                // The handshake is over, and pgate's start-up is here. At a line that begins
                // with R it asks the client to renegotiate.
                let _ = stdin.write_all(b"R\n").await;
                asked = true;
            } else if so_far.contains("ERROR") {
                // It has heard the answer, and would wait for another for ever.
                let _ = server.kill().await;
            }
        }
        String::from_utf8_lossy(&said).into_owned()
    });
    let access = DatabaseAccess {
        host: "localhost".into(),
        port,
        further: Vec::new(),
        target_session_attrs: SessionAttrs::Any,
        database: "shopX".into(),
        user: "app".into(),
        password: "hunter2".into(),
        sslmode: "verify-full".into(),
        ca_pem: Some(made.cert.pem()),
        sslnegotiation: SslNegotiation::Direct,
        channel_binding: ChannelBindingUse::Prefer,
        client_certificate: None,
        credential: CredentialKind::Static,
        catalog_epoch: None,
    };
    let start = Instant::now();
    let error = loop {
        let end = Timestamp::now() + SignedDuration::from_hours(1);
        match Session::with(access.clone(), end, role(ROWS)).await {
            Err(error) if error.to_string().contains("can't be reached") => {
                assert!(start.elapsed() < Duration::from_secs(10), "{error}");
                sleep(Duration::from_millis(50)).await;
            }
            Err(error) => break error.to_string(),
            Ok(_) => panic!("there is no PostgreSQL"),
        }
    };
    let took = start.elapsed();
    let said = said.await.unwrap();
    assert!(took < Duration::from_secs(15), "{error}: {said}");
    // It got to ask, and was told no: there was one handshake, and an error after the other.
    let (_, after) = said.split_once("shopX").expect("the handshake is reached");
    assert!(after.contains("SSL_do_handshake") && after.contains("ERROR"), "{said}");
    assert!(!after.contains("CIPHER is"), "{said}");
    let clear = ["the database closed the connection", "the connection to the database broke"];
    assert!(clear.iter().any(|part| error.contains(part)), "{error}");
}
