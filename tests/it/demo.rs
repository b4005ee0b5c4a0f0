//! `pgate demo`, as somebody runs it who has just installed pgate.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::harness::executable;

/// What is left in a folder for temporary files.
fn left_in(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// A temporary folder that a server of another user can reach too.
fn scratch() -> tempfile::TempDir {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::Builder::new().prefix("t").tempdir_in("/tmp").unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    folder
}

fn demo(temporary: &Path, home: &Path) -> Command {
    let mut command = Command::new(executable());
    command.arg("demo").env_clear().current_dir(home).stdin(Stdio::null());
    command.env("HOME", home).env("TMPDIR", temporary);
    for name in ["PATH", "PGATE_PG_BIN"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command
}

#[test]
fn the_demo_runs_through_by_itself_and_leaves_nothing() {
    let (temporary, home) = (scratch(), tempfile::tempdir().unwrap());
    let output = demo(temporary.path(), home.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    for shown in [
        "pgate login",
        "***@",
        "ERROR:  pgate:",
        "pgate approve gr_",
        "pgate approve ho_",
        "pgate replay se_",
    ] {
        assert!(text.contains(shown), "no {shown} in {text}");
    }
    assert_eq!(left_in(temporary.path()), Vec::<String>::new());
    assert_eq!(left_in(home.path()), Vec::<String>::new());
}

#[test]
fn a_demo_that_stays_goes_without_a_trace_when_it_is_told_to() {
    let (temporary, home) = (scratch(), tempfile::tempdir().unwrap());
    let mut staying =
        demo(temporary.path(), home.path()).arg("--stay").stdout(Stdio::piped()).spawn().unwrap();
    let start = Instant::now();
    let script = loop {
        let found = left_in(temporary.path())
            .into_iter()
            .map(|name| temporary.path().join(name).join("as-dan"))
            .find(|file| file.exists());
        match found {
            Some(file) => break file,
            None => assert!(start.elapsed() < Duration::from_secs(60), "it does not start"),
        }
        std::thread::sleep(Duration::from_millis(50));
    };
    let typed = format!(". {}; pgate targets; echo \"exit $?\"", script.display());
    let shell = Command::new("sh").args(["-c", &typed]).output().unwrap();
    // Not logged in yet, but it is this demo's control plane that says so.
    assert!(String::from_utf8_lossy(&shell.stdout).contains("exit 3"), "{shell:?}");

    let pid = rustix::process::Pid::from_child(&staying);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(staying.wait().unwrap().success());
    assert_eq!(left_in(temporary.path()), Vec::<String>::new());
    assert_eq!(left_in(home.path()), Vec::<String>::new());
}
