//! `pgate connect … -- CMD`: its exit code, its arguments, its environment.

use std::{collections::BTreeMap, fs};

use secrecy::ExposeSecret as _;
use serde_json::Value;

use super::{Desk, finish, stage};

#[tokio::test]
async fn the_commands_own_exit_code_is_pgates() {
    let desk = Desk::new(stage().await, "codes");
    let plain = desk.home().join("plain");
    fs::write(&plain, "echo never").unwrap();
    let grant = desk.grant("10m");
    let cases: [(&[&str], i32); 6] = [
        (&["false"], 1),
        (&["true"], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "kill -9 $$"], 137),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["psql", "-XAtc", "SELECT 1"], 0),
    ];
    for (command, code) in cases {
        let arguments = [&["connect", "prod-db", "--grant", &grant, "--"], command].concat();
        desk.run(&arguments).exits(code);
    }
    let connect =
        |command: &str| desk.run(&["connect", "prod-db", "--grant", &grant, "--", command]);
    connect("nosuch").exits(127).says("nosuch: command not found");
    connect("./nosuch").exits(127);
    connect("./plain").exits(126).says("can't be run").says("ermission denied");
    connect("/").exits(126);
}

#[tokio::test]
async fn a_failure_of_pgates_own_is_125_whatever_its_kind() {
    let desk = Desk::new(stage().await, "failure");
    let ask = ["connect", "nosuch", "--role", "readonly", "--reason", "r", "--", "true"];
    desk.run(&ask).exits(125).says("nosuch").says("hint");
    let known = ["connect", "prod-db", "--role", "readonly", "--reason", "r"];
    desk.run(&[&known[..], &["--server", "http://127.0.0.1:1", "--", "true"]].concat()).exits(125);
    desk.run(&[&known[..], &["--nosuch", "--", "true"]].concat()).exits(125).says("--nosuch");
    let stranger = [&known[..], &["--", "true"]].concat();
    desk.stranger(&stranger).exits(125).says("pgate login");

    // The same without a command have codes of their own.
    desk.run(&["connect", "nosuch", "--role", "readonly", "--reason", "r"]).exits(4);
    desk.run(&[&known[..], &["--server", "http://127.0.0.1:1"]].concat()).exits(6);
    desk.run(&[&known[..], &["--nosuch"]].concat()).exits(2);
    desk.run(&["connect", "prod-db", "--grant", "nonsense"]).exits(2);
    desk.stranger(&known).exits(3).says("pgate login");
    let past = jiff::Timestamp::now().as_second() - 3600;
    let lapsed = serde_json::json!({ "exp": past, "iat": past - 60 });
    let lapsed = desk.stage.issuer().token_with(&super::address(desk.person), lapsed).unwrap();
    let mut command = desk.pgate(&known);
    command.env("PGATE_TOKEN", lapsed.expose_secret());
    finish(command, &known).exits(3).says("expired").hides("eyJ");
    let config = desk.home().join(".config/pgate");
    fs::create_dir_all(&config).unwrap();
    fs::write(config.join("config.toml"), "nosuch = 1\n").unwrap();
    desk.run(&stranger).exits(125).says("config.toml");
    desk.run(&known).exits(2).says("config.toml");
}

#[tokio::test]
async fn placeholders_in_arguments_are_replaced_and_hold_no_password() {
    let desk = Desk::new(stage().await, "fills");
    let echo = ["--", "sh", "-c", "printf '%s\\n' \"$@\"; echo $PGPASSWORD >&2", "sh"];
    let placeholders = ["{host}", "{port}", "{user}", "{database}", "{url}", "{other}"];
    let ran = desk.connect(&[&echo[..], &placeholders].concat()).exits(0);
    let lines = ran.stdout.lines().collect::<Vec<_>>();
    let [host, port, user, "shop", url, "{other}"] = lines[..] else { panic!("{ran}") };
    assert!(host.starts_with('/') && user.starts_with("pgate_s_"), "{ran}");
    assert!(port.parse::<u16>().is_ok() && url.contains(port) && url.contains(user), "{ran}");
    assert!(!ran.stdout.contains(ran.stderr.trim()), "{ran}");

    // The URL alone is enough on the socket.
    let query = ["--", "psql", "{url}", "-XAtc", "SELECT 40 + 2"];
    desk.connect(&query).exits(0).says("42");
}

#[tokio::test]
async fn a_port_and_a_socket_folder_are_taken_as_they_are_asked_for() {
    let desk = Desk::new(stage().await, "places");
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let port = port.to_string();
    let show = ["--", "sh", "-c", "echo $PGHOST $PGPORT; psql -XAtc 'SELECT 40 + 2'"];
    let ran = desk.connect(&[&["--port", &port][..], &show].concat()).exits(0);
    assert_eq!(ran.stdout, format!("127.0.0.1 {port}\n42\n"), "{ran}");

    let folder = desk.home().join("s");
    let folder = folder.to_str().unwrap();
    let ran = desk.connect(&[&["--socket-dir", folder][..], &show].concat()).exits(0);
    assert!(ran.stdout.starts_with(&format!("{folder} ")), "{ran}");
    assert!(ran.stdout.ends_with("\n42\n"), "{ran}");
    assert!(!std::path::Path::new(folder).exists(), "it was made for the session");

    // Taken already, or open to others: said, and the session that was opened is closed.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    desk.connect(&["--port", &port, "--", "true"]).exits(125).says(&port);
    let open = desk.home().join("open");
    fs::create_dir(&open).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&open, mode).unwrap();
    desk.connect(&["--socket-dir", open.to_str().unwrap()]).exits(1).says("closed to others");
    let sessions = desk.run(&["sessions", "list", "--output", "json"]).exits(0);
    let sessions: Value = serde_json::from_str(&sessions.stdout).unwrap();
    let failed = &sessions["sessions"].as_array().unwrap()[0];
    let session = failed["session"].as_str().unwrap();
    desk.run(&["log", "verify", session]).exits(0).says("closed to others");
    desk.role_goes(session).await;
}

#[tokio::test]
async fn the_command_sees_pgates_seven_variables_and_no_secret_but_the_one_time_password() {
    let desk = Desk::new(stage().await, "environs");
    let grant = desk.grant("10m");
    let arguments = ["connect", "prod-db", "--grant", &grant, "--", "env", "-0"];
    let mut command = desk.pgate(&arguments);
    // What would send libpq past the proxy, or hand the command a login.
    let withheld = ["PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE", "PGPASSFILE", "PGSSLMODE"];
    let logins = [
        "PGATE_TOKEN_FILE",
        "PGATE_DATABASE_URL",
        "ACTIONS_ID_TOKEN_REQUEST_URL",
        "ACTIONS_ID_TOKEN_REQUEST_TOKEN",
    ];
    for name in withheld.iter().chain(&["PGOPTIONS", "PGREQUIREAUTH"]).chain(&logins) {
        command.env(name, "/nonexistent");
    }
    command.env("KEPT", "as it is").env("PGHOST", "elsewhere").env("PGPASSWORD", "mine");
    command.env_remove("PGATE_TOKEN_FILE");
    let ran = finish(command, &arguments).exits(0);
    let seen = ran.stdout.split_terminator('\0').map(|pair| pair.split_once('=').unwrap());
    let mut seen: BTreeMap<&str, &str> = seen.collect();

    let own = ["PGHOST", "PGPORT", "PGUSER", "PGDATABASE", "PGPASSWORD", "DATABASE_URL"];
    let own = own.map(|name| seen.remove(name).unwrap_or_else(|| panic!("no {name} in {ran}")));
    let [host, port, user, database, password, url] = own;
    let session = seen.remove("PGATE_SESSION").unwrap();
    assert_eq!(user, super::role_of(session));
    assert_eq!(database, "shop");
    assert!(host.starts_with('/') && url.contains(password) && url.contains(port), "{ran}");
    assert_eq!(seen.remove("KEPT"), Some("as it is"));
    let inherited = desk.stage.environment(desk.person).unwrap();
    let inherited: BTreeMap<&str, &str> =
        inherited.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(seen, inherited, "nothing else is added or taken away");

    assert!(!ran.stdout.contains(desk.stage.cluster().admin_url().expose_secret()));
    assert!(!ran.stdout.contains("eyJ"), "{ran}");
}

#[tokio::test]
async fn the_commands_password_opens_the_proxy_and_not_the_database() {
    let stage = stage().await;
    let desk = Desk::new(stage, "password");
    let straight = format!(
        "psql -XAtc 'SELECT 1' && echo straight: && \
         psql -h 127.0.0.1 -p {} -XAtc 'SELECT current_user'",
        stage.cluster().port()
    );
    let ran = desk.connect(&["--", "sh", "-c", &straight]).exits(2);
    assert_eq!(ran.stdout, "1\nstraight:\n", "{ran}");
    ran.says("password authentication failed");
}
