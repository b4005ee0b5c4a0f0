//! `install.sh` from the web: what the pinned key signed is installed, and
//! anything else leaves nothing behind. Real `ssh-keygen`, `curl` and `tar`.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

const VERSION: &str = "1.2.3";

/// A published release in a folder, made by the release workflow's own script.
struct Release {
    folder: TempDir,
}

impl Release {
    fn publish() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let dist = at("site/latest/download");
        fs::create_dir_all(&dist).expect("a folder");
        for triple in [
            "x86_64-unknown-linux-gnu",
            "aarch64-unknown-linux-gnu",
            "x86_64-apple-darwin",
            "aarch64-apple-darwin",
        ] {
            let name = format!("pgate-{VERSION}-{triple}");
            let inner = at(&name);
            for part in ["completions", "man"] {
                fs::create_dir_all(inner.join(part)).expect("a folder");
            }
            let program = format!("#!/bin/sh\necho pgate {VERSION}\n");
            for (file, text) in [
                ("pgate", program.as_str()),
                ("completions/pgate.bash", "# bash"),
                ("completions/_pgate", "#compdef pgate"),
                ("completions/pgate.fish", "# fish"),
                ("man/pgate.1", ".TH pgate 1"),
            ] {
                fs::write(inner.join(file), text).expect("a file");
            }
            let archive = dist.join(format!("{name}.tar.gz"));
            run(Command::new("tar")
                .arg("-czf")
                .arg(archive)
                .arg("-C")
                .arg(folder.path())
                .arg(name));
        }
        let release = Self { folder };
        release.sign("key");
        release
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path("site/latest/download").join(name)
    }

    fn sign(&self, key: &str) {
        let key = self.path(key);
        run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key));
        run(Command::new(checkout(".github/release-files"))
            .arg(self.path("site/latest/download"))
            .env("RELEASE_SIGNING_KEY", fs::read_to_string(&key).expect("the key"))
            .env("GITHUB_REPOSITORY", "acme/pgate"));
    }

    /// `cat script | sh -s -- --prefix … arguments`
    fn install(&self, script: &str, arguments: &[&str]) -> Output {
        let mut child = Command::new("sh")
            .args(["-s", "--", "--prefix"])
            .arg(self.path("prefix"))
            .args(arguments)
            .current_dir(self.folder.path())
            .env("PGATE_RELEASES", format!("file://{}", self.path("site").display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("sh runs");
        // A script that exits early closes the pipe; that is not an error here.
        let _ = child.stdin.take().expect("it is piped").write_all(script.as_bytes());
        child.wait_with_output().expect("sh ends")
    }

    fn script(&self) -> String {
        fs::read_to_string(self.file("install.sh")).expect("the stamped script")
    }

    fn edit(&self, name: &str, edit: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let bytes = fs::read(self.file(name)).expect("a published file");
        fs::write(self.file(name), edit(bytes)).expect("a published file");
    }
}

fn checkout(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Whether the tools are here; under `tests/run` they must be.
fn tools() -> bool {
    let missing = ["ssh-keygen", "curl", "tar", "sha256sum"].into_iter().find(|tool| {
        let look = format!("command -v {tool}");
        !Command::new("sh").args(["-c", &look]).output().is_ok_and(|out| out.status.success())
    });
    if let Some(tool) = missing {
        assert!(std::env::var_os("PGATE_TEST_ALL").is_none(), "{tool} is missing");
        println!("not run: {tool} is missing");
    }
    missing.is_none()
}

#[test]
fn from_the_web_it_installs_what_the_pinned_key_signed() {
    if !tools() {
        return;
    }
    let release = Release::publish();
    // Twice: the second run replaces what the first one installed.
    for _ in 0..2 {
        let output = release.install(&release.script(), &[]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let installed = Command::new(release.path("prefix/bin/pgate")).output().expect("it runs");
    assert_eq!(String::from_utf8_lossy(&installed.stdout), format!("pgate {VERSION}\n"));
    for file in [
        "bash-completion/completions/pgate",
        "zsh/site-functions/_pgate",
        "fish/vendor_completions.d/pgate.fish",
        "man/man1/pgate.1",
    ] {
        assert!(release.path("prefix/share").join(file).is_file(), "{file}");
    }
}

#[test]
fn from_the_web_it_installs_nothing_that_it_cannot_verify() {
    if !tools() {
        return;
    }
    type Tampering = fn(&Release);
    let cases: [(&str, &[&str], Tampering, &str); 7] = [
        ("an archive edited", &[], |r| each_archive(r, |r, name| r.edit(name, spoil)), "SHA-256"),
        ("the list edited", &[], |r| r.edit("SHA256SUMS", spoil), "does not verify"),
        ("the signature edited", &[], |r| r.edit("SHA256SUMS.sig", spoil), "does not verify"),
        ("the signature gone", &[], |r| remove(r, "SHA256SUMS.sig"), "could not be fetched"),
        ("another key", &[], another_key, "does not verify"),
        ("an old release for a new one", &["--version", "9.9.9"], as_version, "9.9.9"),
        ("an archive that is gone", &[], |r| each_archive(r, remove), "could not be fetched"),
    ];
    for (case, arguments, tamper, expected) in cases {
        let release = Release::publish();
        let script = release.script();
        tamper(&release);
        let output = release.install(&script, arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{case}: {errors}");
        assert!(errors.contains(expected), "{case}: {errors}");
        assert!(!release.path("prefix").exists(), "{case}");
    }
}

fn spoil(mut bytes: Vec<u8>) -> Vec<u8> {
    // Past the header of an archive and of a signature's armour.
    let middle = bytes.len() / 2;
    bytes[middle] = if bytes[middle] == b'a' { b'b' } else { b'a' };
    bytes
}

fn remove(release: &Release, name: &str) {
    fs::remove_file(release.file(name)).expect("a published file");
}

fn each_archive(release: &Release, change: fn(&Release, &str)) {
    for entry in fs::read_dir(release.file(".")).expect("the release") {
        let name = entry.expect("the release").file_name().to_string_lossy().into_owned();
        if name.ends_with(".tar.gz") {
            change(release, &name);
        }
    }
}

/// Everything signed properly, by somebody else.
fn another_key(release: &Release) {
    release.sign("other");
}

/// The signed release 1.2.3 where 9.9.9 is asked for.
fn as_version(release: &Release) {
    fs::create_dir_all(release.path("site/download")).expect("a folder");
    fs::rename(release.path("site/latest/download"), release.path("site/download/v9.9.9"))
        .expect("the release");
}

#[test]
fn a_copy_without_a_key_or_cut_short_installs_nothing() {
    if !tools() {
        return;
    }
    let release = Release::publish();
    let unstamped = fs::read_to_string(checkout("install.sh")).expect("the script");
    let output = release.install(&unstamped, &[]);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("no signing key"), "{errors}");

    let whole = release.script();
    let lines = whole.lines().collect::<Vec<_>>();
    for cut in [lines.len() / 3, lines.len() / 2, lines.len() - 1] {
        let output = release.install(&lines[..cut].join("\n"), &[]);
        assert!(output.stdout.is_empty(), "cut at {cut}");
        assert!(!release.path("prefix").exists(), "cut at {cut}");
    }
}

#[test]
fn a_wrong_option_is_named_and_nothing_is_done() {
    for (arguments, expected) in [
        (["--bogus"].as_slice(), "unknown option --bogus"),
        (&["--prefix"], "--prefix needs a value"),
        (&["--profile", "fast"], "release or dev, not fast"),
        (&["--version", "1.0.0"], "a checkout builds what is checked out"),
    ] {
        let output = Command::new("sh")
            .arg(checkout("install.sh"))
            .args(arguments)
            .stdin(Stdio::null())
            .output()
            .expect("sh runs");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
    }
}
