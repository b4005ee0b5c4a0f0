//! Where PostgreSQL's programs are on this machine: found, else fetched, else
//! the words that tell a person what to install.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use postgresql_embedded::{PostgreSQL, Settings, VersionReq};

use super::ClusterError;

/// The environment variable that names the folder of PostgreSQL's server programs.
pub const BIN_VARIABLE: &str = "PGATE_PG_BIN";

/// The major versions that pgate supports.
const SUPPORTED: std::ops::RangeInclusive<u32> = 14..=18;
/// The version that is fetched where none is installed.
const FETCHED: &str = "=17";
const RELEASES: &str = "https://github.com/theseus-rs/postgresql-binaries";

/// PostgreSQL's server programs of one version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The folder that holds `initdb`, `pg_ctl` and `postgres`.
    pub folder: PathBuf,
    /// The major version.
    pub major: u32,
}

impl Binaries {
    /// Finds the programs: in `PGATE_PG_BIN` where that is set, else the newest
    /// supported version on PATH or in the places that distributions use.
    pub fn find() -> Result<Option<Self>, ClusterError> {
        if let Some(folder) = env::var_os(BIN_VARIABLE).filter(|value| !value.is_empty()) {
            let folder = PathBuf::from(folder);
            let found = Self::in_folder(&folder);
            return found.map(Some).ok_or(ClusterError::WrongFolder(folder));
        }
        let path = env::var_os("PATH").unwrap_or_default();
        let found = env::split_paths(&path)
            .chain(usual_folders())
            .filter_map(|folder| Self::in_folder(&folder))
            .filter(|binaries| SUPPORTED.contains(&binaries.major))
            .reduce(|best, next| if next.major > best.major { next } else { best });
        Ok(found)
    }

    /// [`find`](Self::find), and where nothing is found, a download into the
    /// user's cache folder.
    pub async fn find_or_fetch() -> Result<Self, ClusterError> {
        if let Some(found) = Self::find()? {
            return Ok(found);
        }
        fetch().await.map_err(|reason| ClusterError::NoPostgres {
            reason,
            advice: install_advice(Wanted::Server),
        })
    }

    /// `psql`: beside the server, else on PATH.
    pub fn psql(&self) -> Result<PathBuf, ClusterError> {
        let path = env::var_os("PATH").unwrap_or_default();
        std::iter::once(self.folder.clone())
            .chain(env::split_paths(&path))
            .map(|folder| folder.join("psql"))
            .find(|program| program.is_file())
            .ok_or_else(|| ClusterError::NoPsql { advice: install_advice(Wanted::Client) })
    }

    fn in_folder(folder: &Path) -> Option<Self> {
        let complete =
            ["initdb", "pg_ctl", "postgres"].iter().all(|name| folder.join(name).is_file());
        if !complete {
            return None;
        }
        let output = Command::new(folder.join("postgres"))
            .arg("--version")
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .output()
            .ok()?;
        let major = major_version(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self { folder: folder.to_owned(), major })
    }
}

/// Reads `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)`.
fn major_version(text: &str) -> Option<u32> {
    let (_, version) = text.split_once("(PostgreSQL) ")?;
    let digits = version.split(|letter: char| !letter.is_ascii_digit()).next()?;
    digits.parse().ok()
}

/// The folders of Debian, Red Hat, Homebrew and Postgres.app, with any version.
fn usual_folders() -> Vec<PathBuf> {
    [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/opt/homebrew/opt", "postgresql", "bin"),
        ("/usr/local/opt", "postgresql", "bin"),
        ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"),
        ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
        ("/usr/local", "pgsql", "bin"),
        ("/usr/libexec", "postgresql", ""),
    ]
    .iter()
    .flat_map(|(parent, prefix, below)| {
        let entries = fs::read_dir(parent).into_iter().flatten().flatten();
        entries
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .map(|entry| entry.path().join(below))
            .collect::<Vec<_>>()
    })
    .collect()
}

/// Downloads a release into a folder that outlives the demo, so that the next
/// run finds it there.
async fn fetch() -> Result<Binaries, String> {
    let cache = match super::privileges() {
        super::Privileges::Root => PathBuf::from("/var/cache"),
        super::Privileges::Ordinary => dirs::cache_dir().ok_or("there is no cache folder")?,
    };
    let installation_dir = cache.join("pgate").join("postgresql");
    fs::create_dir_all(&installation_dir).map_err(|error| error.to_string())?;
    // `setup` fetches, and then runs initdb unless the data folder looks
    // initialised. Only the first is wanted here: the cluster has its own initdb.
    let scratch = tempfile::tempdir().map_err(|error| error.to_string())?;
    fs::write(scratch.path().join("postgresql.conf"), "").map_err(|error| error.to_string())?;
    let settings = Settings {
        releases_url: RELEASES.to_owned(),
        version: VersionReq::parse(FETCHED).map_err(|error| error.to_string())?,
        installation_dir,
        password_file: scratch.path().join("password"),
        data_dir: scratch.path().to_owned(),
        host: "127.0.0.1".to_owned(),
        port: 0,
        username: "postgres".to_owned(),
        password: String::new(),
        temporary: true,
        timeout: None,
        configuration: Default::default(),
        trust_installation_dir: false,
        socket_dir: None,
    };
    let mut postgresql = PostgreSQL::new(settings);
    postgresql.setup().await.map_err(|error| error.to_string())?;
    let installed = &postgresql.settings().installation_dir;
    open_to_all(installed).map_err(|error| error.to_string())?;
    Binaries::in_folder(&installed.join("bin"))
        .ok_or_else(|| format!("what was fetched into {} does not run", installed.display()))
}

/// The archive is unpacked into a folder for its owner only, but under root the
/// server runs as somebody else.
fn open_to_all(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))
}

/// Which of PostgreSQL's packages is missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The server's programs.
    Server,
    /// `psql`.
    Client,
}

/// The command that installs PostgreSQL on this system.
pub fn install_advice(wanted: Wanted) -> String {
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    advice_for(env::consts::OS, &system, wanted)
}

fn advice_for(os: &str, os_release: &str, wanted: Wanted) -> String {
    let families = os_release
        .lines()
        .filter_map(|line| line.strip_prefix("ID=").or_else(|| line.strip_prefix("ID_LIKE=")))
        .flat_map(|value| value.trim_matches('"').split_whitespace())
        .collect::<Vec<_>>();
    let is = |names: &[&str]| families.iter().any(|family| names.contains(family));
    let (server, client) = if os == "macos" {
        ("brew install postgresql@17", "brew install postgresql@17")
    } else if is(&["debian", "ubuntu"]) {
        ("sudo apt-get install postgresql", "sudo apt-get install postgresql-client")
    } else if is(&["fedora", "rhel", "centos"]) {
        ("sudo dnf install postgresql-server", "sudo dnf install postgresql")
    } else if is(&["alpine"]) {
        ("sudo apk add postgresql", "sudo apk add postgresql-client")
    } else if is(&["arch"]) {
        ("sudo pacman -S postgresql", "sudo pacman -S postgresql-libs")
    } else if is(&["suse", "opensuse"]) {
        ("sudo zypper install postgresql-server", "sudo zypper install postgresql")
    } else {
        return "see https://www.postgresql.org/download/".to_owned();
    };
    match wanted {
        Wanted::Server => format!("install it with: {server}"),
        Wanted::Client => format!("install it with: {client}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_major_version_is_read_from_what_postgres_prints() {
        let cases = [
            ("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n", Some(15)),
            ("postgres (PostgreSQL) 18beta1", Some(18)),
            ("postgres (PostgreSQL) 9.6.24", Some(9)),
            ("postgres (PostgreSQL) devel", None),
            ("PostgreSQL 15", None),
            ("", None),
        ];
        for (text, expected) in cases {
            assert_eq!(major_version(text), expected, "{text}");
        }
    }

    #[test]
    fn the_advice_names_the_systems_own_package_manager() {
        let cases = [
            ("linux", "ID=debian\n", "apt-get"),
            ("linux", "ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "apt-get"),
            ("linux", "ID=\"rocky\"\nID_LIKE=\"rhel centos fedora\"\n", "dnf"),
            ("linux", "ID=alpine\n", "apk"),
            ("linux", "ID=\"opensuse-leap\"\nID_LIKE=\"suse opensuse\"\n", "zypper"),
            ("macos", "", "brew"),
            ("freebsd", "", "postgresql.org/download"),
        ];
        for (os, release, expected) in cases {
            for wanted in [Wanted::Server, Wanted::Client] {
                let advice = advice_for(os, release, wanted);
                assert!(advice.contains(expected), "{os} {release}: {advice}");
            }
        }
    }

    #[test]
    fn a_folder_without_the_server_programs_is_not_taken() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Binaries::in_folder(folder.path()), None);
        for name in ["initdb", "pg_ctl", "postgres"] {
            fs::write(folder.path().join(name), "not a program").unwrap();
        }
        assert_eq!(Binaries::in_folder(folder.path()), None);
    }
}
