//! Logins in a real keyring: GNOME's on a session bus of its own. Without both
//! this says so and passes, unless `PGATE_TEST_ALL` is set.

use std::{path::PathBuf, process::Stdio};

use tokio::process::Command;

use super::house::{Ended, House, finished};

/// Starts a bus and an unlocked keyring, then runs the commands one by one.
const SESSION: &str = r#"
set -e
eval "$(printf '\n' | gnome-keyring-daemon --unlock --components=secrets)"
"$PGATE" login --output json
test ! -e "$HOME/.local/share/pgate/logins.json"
"$PGATE" whoami
"$PGATE" logout
"$PGATE" whoami || exit $?
"#;

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_live_in_the_keyring_where_there_is_one() {
    if on_path("dbus-run-session").is_none() || on_path("gnome-keyring-daemon").is_none() {
        assert!(
            std::env::var_os("PGATE_TEST_ALL").is_none(),
            "dbus-run-session and gnome-keyring-daemon are not installed"
        );
        eprintln!("skipped: no dbus-run-session or no gnome-keyring-daemon");
        return;
    }
    let house = House::build().await;
    let child = Command::new("dbus-run-session")
        .args(["--", "sh", "-c", SESSION])
        .env_clear()
        .env("HOME", house.home("ana"))
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("PGATE", env!("CARGO_BIN_EXE_pgate"))
        .env("PGATE_SERVER", &house.url)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    house.enter_code(|code| house.issuer.approve(code, "ana@example.com")).await;
    // The last command finds no login any more.
    let ended: Ended = finished(child).await.exits(3);
    assert!(ended.stdout.contains(r#""kept_in":"keyring""#), "{}", ended.stdout);
    assert!(ended.stdout.contains("ana@example.com (corp)"), "{}", ended.stdout);
    assert!(ended.stdout.contains("logged out of"), "{}", ended.stdout);
}
