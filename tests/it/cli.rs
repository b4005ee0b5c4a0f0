//! The command line, as people and jobs use it: the real binary in a hermetic
//! environment, a real control plane, a real issuer.

pub(crate) mod house;
#[cfg(target_os = "linux")]
mod keyring;
mod oidc_provider;

use std::{fs, os::unix::fs::PermissionsExt as _, process::Stdio, time::Duration};

use house::{House, finished, pgate, run};
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};

const ANA: &str = "ana@example.com";

/// A request that needs a reviewer; its id.
async fn pending(house: &House, who: &str) -> String {
    let arguments = [
        "request",
        "prod-db",
        "--role",
        "writer",
        "--reason",
        "fix it",
        "--no-wait",
        "--output",
        "json",
    ];
    let ended = run(house.with_token(who, &arguments)).await.exits(5);
    let grant = ended.json();
    assert_eq!(grant["state"], "pending");
    grant["id"].as_str().expect("an id").to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_logs_in_by_the_device_flow_and_out_again() {
    let house = House::build().await;
    let mut child = house
        .pgate("ana", &["login", "--output", "json", "--no-browser"])
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let shown: Value =
        serde_json::from_str(&lines.next_line().await.expect("readable").expect("a line"))
            .expect("JSON");
    assert_eq!(shown["event"], "device_code");
    assert!(shown["url"].as_str().is_some_and(|url| url.starts_with(house.issuer.url())));
    house.issuer.approve(shown["code"].as_str().expect("a code"), ANA).expect("it waits");
    let done: Value =
        serde_json::from_str(&lines.next_line().await.expect("readable").expect("a line"))
            .expect("JSON");
    assert_eq!((&done["event"], &done["identity"]["email"]), (&json!("logged_in"), &json!(ANA)));
    finished(child).await.succeeds();

    let logins = house.home("ana").join(".local/share/pgate/logins.json");
    let mode = fs::metadata(&logins).expect("no keyring here").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let me = run(house.pgate("ana", &["whoami"])).await.succeeds();
    assert!(me.stdout.contains("ana@example.com (corp)") && me.stdout.contains("engineering"));
    run(house.pgate("ana", &["logout"])).await.succeeds();
    let nobody = run(house.pgate("ana", &["whoami", "--output", "json"])).await.exits(3);
    assert_eq!(nobody.problem()["code"], "not_logged_in");
    assert_eq!(nobody.problem()["hint"], "run `pgate login`");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_text_of_a_login_shows_where_to_go_and_where_tokens_are_kept() {
    let house = House::build().await;
    let child = house.pgate("ana", &["login"]).spawn().expect("it starts");
    house.enter_code(|code| house.issuer.approve(code, ANA)).await;
    let ended = finished(child).await.succeeds();
    assert!(ended.stderr.contains(&format!("Open   {}", house.issuer.url())), "{}", ended.stderr);
    assert!(ended.stderr.contains("Code   "), "{}", ended.stderr);
    assert!(ended.stderr.contains("no session bus"), "{}", ended.stderr);
    assert!(ended.stderr.contains("logins.json (only you can read it)"), "{}", ended.stderr);
    assert!(ended.stdout.contains("as ana@example.com (corp)"), "{}", ended.stdout);
    assert!(ended.stderr.contains("next: pgate targets"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_is_refused_or_for_nobody_known_keeps_nothing() {
    let house = House::build().await;
    let child = house.pgate("ana", &["login", "--output", "json"]).spawn().expect("it starts");
    house.enter_code(|code| house.issuer.deny(code)).await;
    let ended = finished(child).await.exits(4);
    assert_eq!(ended.problem()["code"], "login_denied");
    assert!(!house.home("ana").join(".local/share/pgate/logins.json").exists());

    let ended = run(house.pgate("ana", &["login", "--issuer", "crop"])).await.exits(2);
    assert!(ended.stderr.contains("it knows: corp"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_approves_is_active_at_once() {
    let house = House::build().await;
    house.log_in("ana").await;
    let targets = run(house.pgate("ana", &["targets"])).await.succeeds();
    assert!(targets.stdout.contains("prod-db  readonly"), "{}", targets.stdout);
    assert!(targets.stderr.contains("next: pgate request prod-db --role readonly"));

    let arguments =
        ["request", "prod-db", "--role", "readonly", "--reason", "INC-4312", "--ttl", "30m"];
    let ended = run(house.pgate("ana", &arguments)).await.succeeds();
    assert!(ended.stdout.contains("prod-db as readonly: active until "), "{}", ended.stdout);
    assert!(ended.stderr.contains("next: pgate connect prod-db -- psql"), "{}", ended.stderr);

    let list = run(house.pgate("ana", &["grants", "--output", "json"])).await.succeeds().json();
    assert_eq!(list["grants"][0]["ttl_seconds"], 1800);
    let id = list["grants"][0]["id"].as_str().expect("an id");
    let shown = run(house.pgate("ana", &["grants", "show", id])).await.succeeds();
    assert!(shown.stdout.contains("by the policy") && shown.stdout.contains("INC-4312"));

    let revoke = ["grants", "revoke", id, "--comment", "done"];
    assert!(run(house.pgate("ana", &revoke)).await.succeeds().stdout.contains("revoked by ana"));
    run(house.pgate("ana", &revoke)).await.exits(4);
    let active = run(house.pgate("ana", &["grants", "list", "--active"])).await.succeeds();
    assert!(active.stdout.is_empty(), "{}", active.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reviewer_approves_while_the_requester_waits() {
    let house = House::build().await;
    let arguments = ["request", "prod-db", "--role", "writer", "--reason", "fix it"];
    let waiting = house.with_token("ana", &arguments).spawn().expect("it starts");
    let id = loop {
        let inbox = run(house.with_token("bo", &["inbox", "--output", "json"])).await.succeeds();
        if let Some(id) = inbox.json()["grants"][0]["id"].as_str() {
            break id.to_owned();
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let own = run(house.with_token("ana", &["approve", &id, "--output", "json"])).await.exits(4);
    assert!(own.problem()["message"].is_string(), "{}", own.stderr);
    let inbox = run(house.with_token("bo", &["inbox"])).await.succeeds();
    assert!(inbox.stdout.contains("fix it") && inbox.stderr.contains("next: pgate approve gr_"));

    let approved =
        run(house.with_token("bo", &["approve", &id, "--comment", "ok"])).await.succeeds();
    assert!(approved.stdout.contains("active until"), "{}", approved.stdout);
    let ended = finished(waiting).await.succeeds();
    assert!(ended.stderr.contains("waits for a reviewer"), "{}", ended.stderr);
    assert!(ended.stdout.contains("active until"), "{}", ended.stdout);
    let shown = run(house.with_token("ana", &["grants", "show", &id])).await.succeeds();
    assert!(shown.stdout.contains("bo@example.com (corp), ") && shown.stdout.contains(": ok"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denial_ends_the_waiting_with_its_comment() {
    let house = House::build().await;
    let arguments = ["request", "prod-db", "--role", "writer", "--reason", "x", "--output", "json"];
    let mut waiting = house.with_token("ana", &arguments).spawn().expect("it starts");
    let mut lines = BufReader::new(waiting.stdout.take().expect("piped")).lines();
    let event: Value =
        serde_json::from_str(&lines.next_line().await.expect("readable").expect("a line"))
            .expect("JSON");
    assert_eq!(event["event"], "waiting_approval");
    let id = event["grant"].as_str().expect("an id");
    let denied = run(house.with_token("bo", &["deny", id, "--comment", "use the replica"])).await;
    denied.succeeds();
    let ended = finished(waiting).await.exits(4);
    let problem = ended.problem();
    assert_eq!(problem["code"], "denied");
    assert!(problem["message"].as_str().is_some_and(|text| text.ends_with(": use the replica")));
}

#[tokio::test(flavor = "multi_thread")]
async fn ctrl_c_ends_the_waiting_and_not_the_request() {
    let house = House::build().await;
    let arguments = ["request", "prod-db", "--role", "writer", "--reason", "x", "--output", "json"];
    let mut waiting = house.with_token("ana", &arguments).spawn().expect("it starts");
    let mut lines = BufReader::new(waiting.stdout.take().expect("piped")).lines();
    let event = lines.next_line().await.expect("readable").expect("a line");
    let event: Value = serde_json::from_str(&event).expect("JSON");
    let pid = i32::try_from(waiting.id().expect("it runs")).expect("a pid");
    let pid = rustix::process::Pid::from_raw(pid).expect("a pid");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it runs");
    let ended = finished(waiting).await.exits(5);
    assert!(ended.stderr.contains("still pending"), "{}", ended.stderr);
    let id = event["grant"].as_str().expect("an id");
    let shown = run(house.with_token("ana", &["grants", "show", id])).await.succeeds();
    assert!(shown.stdout.contains("pending"), "{}", shown.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_s_token_works_from_the_environment_a_file_and_github() {
    let house = House::build().await;
    let claims = [("repository".to_owned(), "acme/shop".to_owned())].into();
    let token = house.issuer.workload_token("pgate-ci", "repo:acme/shop", &claims);
    let token = token.expose_secret().to_owned();
    let request = ["request", "prod-db", "--role", "readonly", "--reason", "nightly"];

    let mut command = house.pgate("job", &request);
    command.env("PGATE_TOKEN", &token);
    run(command).await.succeeds();

    let file = house.home("job").join("token");
    fs::write(&file, format!("{token}\n")).expect("written");
    let mut command = house.pgate("job", &["whoami", "--output", "json"]);
    command.env("PGATE_TOKEN_FILE", &file);
    let me = run(command).await.succeeds().json();
    assert_eq!(me["identity"]["claims"]["repository"], "acme/shop");

    // GitHub's service: a GET with the audience, a bearer token, `{"value": …}`.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let service = format!("http://{}/?api-version=2", listener.local_addr().expect("bound"));
    let answer = json!({ "value": token }).to_string();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let mut request = vec![0; 4096];
        let read = stream.read(&mut request).await.expect("a request");
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
        stream.write_all(answer.as_bytes()).await.expect("it listens");
        String::from_utf8_lossy(&request[..read]).to_lowercase()
    });
    let mut command = house.pgate("job", &["targets"]);
    command
        .env("ACTIONS_ID_TOKEN_REQUEST_URL", service)
        .env("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "runner-secret");
    let ended = run(command).await.succeeds();
    assert!(ended.stdout.contains("readonly"), "{}", ended.stdout);
    let asked = serving.await.expect("it was asked");
    assert!(asked.starts_with("get /?api-version=2&audience=pgate-ci "), "{asked}");
    assert!(asked.contains("authorization: bearer runner-secret"), "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_no_good_is_not_logged_in() {
    let house = House::build().await;
    let hour_ago = jiff::Timestamp::now().as_second() - 3600;
    let expired = house
        .issuer
        .token_with(ANA, json!({ "exp": hour_ago, "iat": hour_ago - 60 }))
        .expect("ana");
    let foreign = house.issuer.token_with(ANA, json!({ "aud": "shop" })).expect("ana");
    for token in [expired.expose_secret(), foreign.expose_secret(), "opaque"] {
        let mut command = house.pgate("ana", &["whoami", "--output", "json"]);
        command.env("PGATE_TOKEN", token);
        let ended = run(command).await.exits(3);
        assert_eq!(ended.problem()["code"], "not_logged_in");
    }
    let mut command = house.pgate("ana", &["whoami"]);
    command.env("PGATE_TOKEN", "two words");
    run(command).await.exits(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_s_token_goes_to_no_server_that_only_a_repository_names() {
    let house = House::build().await;
    let checkout = house.home("job").join("checkout/deep");
    fs::create_dir_all(&checkout).expect("a folder");
    let project = house.home("job").join("checkout/.pgate.toml");
    fs::write(&project, format!("server = \"{}\"\n", house.url)).expect("written");
    let mut command = house.with_token("ana", &["whoami"]);
    command.env_remove("PGATE_SERVER").current_dir(&checkout);
    let ended = run(command).await.exits(2);
    assert!(ended.stderr.contains(".pgate.toml alone"), "{}", ended.stderr);
    let mut command = house.with_token("ana", &["whoami", "--server", &house.url]);
    command.env_remove("PGATE_SERVER").current_dir(&checkout);
    run(command).await.succeeds();
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_logs_in_to_a_server_that_only_a_repository_names() {
    // Its writer's server could name the company's own issuer, and use there in the person's
    // name what they bring.
    let house = House::build().await;
    let checkout = house.home("ana").join("checkout");
    fs::create_dir_all(&checkout).expect("a folder");
    let project = format!("server = \"{}\"\n", house.url);
    fs::write(checkout.join(".pgate.toml"), project).expect("written");
    let here = |arguments: &[&str]| {
        let mut command = house.pgate("ana", arguments);
        command.env_remove("PGATE_SERVER").current_dir(&checkout);
        command
    };
    let ended = run(here(&["login", "--no-browser"])).await.exits(2);
    assert!(ended.stderr.contains(".pgate.toml alone"), "{}", ended.stderr);
    assert!(ended.stderr.contains(&format!("--server {}", house.url)), "{}", ended.stderr);
    assert!(house.issuer.waiting().is_empty(), "the issuer was not asked");

    let named =
        here(&["login", "--no-browser", "--server", &house.url]).spawn().expect("it starts");
    house.enter_code(|code| house.issuer.approve(code, ANA)).await;
    finished(named).await.succeeds();
    run(here(&["whoami"])).await.succeeds();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_is_renewed_silently_by_several_commands_at_once() {
    let house = House::with_tokens_for(Duration::from_secs(4)).await;
    house.log_in("ana").await;
    tokio::time::sleep(Duration::from_secs(4)).await;
    // The issuer ends a login whose refresh token comes twice.
    let children: Vec<_> =
        (0..4).map(|_| house.pgate("ana", &["whoami"]).spawn().expect("it starts")).collect();
    for child in children {
        let ended = finished(child).await.succeeds();
        assert!(ended.stdout.contains(ANA), "{}", ended.stdout);
    }
    tokio::time::sleep(Duration::from_secs(4)).await;
    run(house.pgate("ana", &["whoami"])).await.succeeds();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_silent_or_another_is_told_apart() {
    let mut house = House::build().await;
    house.log_in("ana").await;
    let id = pending(&house, "ana").await;
    house.stop().await;
    let away = run(house.pgate("ana", &["grants", "show", &id, "--output", "json"])).await.exits(6);
    assert_eq!(away.problem()["code"], "unreachable");
    run(house.pgate("ana", &["login"])).await.exits(6);

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let garbage = format!("http://{}", listener.local_addr().expect("bound"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let page = "HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\n<html>\u{1b}[2J!";
            let _ = stream.write_all(page.as_bytes()).await;
        }
    });
    let ended = run(house.pgate("ana", &["login", "--server", &garbage])).await.exits(1);
    assert!(ended.stderr.contains("doesn't answer as a pgate server does"), "{}", ended.stderr);
    assert!(!ended.stderr.contains('\u{1b}'));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_store_and_a_dead_keyring_show_the_way_out() {
    let house = House::build().await;
    // A bus that is not there any more: said, and the file is used.
    let mut login = house.pgate("ana", &["login"]);
    login.env("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nonexistent/bus");
    let child = login.spawn().expect("it starts");
    house.enter_code(|code| house.issuer.approve(code, ANA)).await;
    let ended = finished(child).await.succeeds();
    assert!(ended.stderr.contains("there is no keyring here"), "{}", ended.stderr);

    let logins = house.home("ana").join(".local/share/pgate/logins.json");
    let good = fs::read_to_string(&logins).expect("readable");
    fs::write(&logins, &good[..good.len() / 2]).expect("written");
    let ended = run(house.pgate("ana", &["whoami"])).await.exits(1);
    assert!(ended.stderr.contains("is damaged"), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: remove "), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_finds_everything_well_or_says_what_is_not() {
    let mut house = House::build().await;
    house.log_in("ana").await;
    let report = run(house.pgate("ana", &["doctor", "--output", "json"])).await.succeeds().json();
    let status = |report: &Value, name: &str| {
        let checks = report["checks"].as_array().expect("an array").clone();
        let check = checks.into_iter().find(|check| check["check"] == name);
        check.unwrap_or_else(|| panic!("no {name} in {report}"))["status"].clone()
    };
    for name in ["settings", "server", "version", "clock", "login", "spool", "sockets", "psql"] {
        assert_eq!(status(&report, name), "ok", "{name}: {report}");
    }
    assert_eq!(status(&report, "keyring"), "warn");
    assert_eq!(report["settings"][0]["source"], "environment PGATE_SERVER");

    house.stop().await;
    let ended = run(house.pgate("ana", &["doctor"])).await.exits(1);
    assert!(ended.stdout.contains("fail  server"), "{}", ended.stdout);
    assert!(ended.stdout.contains("→ check the URL"), "{}", ended.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_goes_away_ends_the_command_quietly() {
    let house = House::build().await;
    let mut command = pgate(&house.home("ana"));
    let mut child =
        command.args(["completions", "bash"]).stdin(Stdio::null()).spawn().expect("runs");
    drop(child.stdout.take());
    let ended = finished(child).await.exits(141);
    assert_eq!(ended.stderr, "");
}

#[test]
fn a_wrong_command_line_says_what_is_wrong_and_exits_with_2() {
    let home = tempfile::tempdir().expect("a home");
    trycmd::TestCases::new()
        .env("HOME", home.path().to_string_lossy())
        .env("PGATE_SERVER", "")
        .case("tests/cmd/*.toml");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setting_of_the_home_holds_until_a_flag_says_otherwise() {
    let house = House::build().await;
    let config = house.home("ana").join(".config/pgate");
    fs::create_dir_all(&config).expect("a folder");
    fs::write(config.join("config.toml"), "output = \"json\"\n").expect("written");
    let ended = run(house.with_token("ana", &["targets"])).await.succeeds();
    assert!(ended.json()["targets"].is_array());
    let ended = run(house.with_token("ana", &["--output", "text", "targets"])).await.succeeds();
    assert!(ended.stdout.starts_with("TARGET"), "{}", ended.stdout);
}
