//! Where logins are kept, one for each control plane: the operating system's
//! keyring, or a 0600 file where there is none.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use url::Url;

use super::{Error, Login};

/// The keyring's name for what is pgate's.
const SERVICE: &str = "pgate";
/// A keyring may ask its user to unlock it; one that is broken never answers.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long another pgate may hold the store.
const OTHERS: Duration = Duration::from_secs(60);
/// The largest file of logins that is read, in bytes.
const LARGEST: u64 = 4 << 20;
const VERSION: u32 = 1;

/// Where a login is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In the keyring.
    Keyring,
    /// In a file, and why not in the keyring.
    File {
        /// The file.
        file: PathBuf,
        /// Why; none where the settings say so.
        because: Option<String>,
    },
}

/// The logins of one user.
#[derive(Debug, Clone)]
pub struct Store {
    file: PathBuf,
    uses_keyring: bool,
}

/// What the file holds: logins by their server's URL.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: u32,
    logins: BTreeMap<String, Login>,
}

impl Default for Content {
    fn default() -> Self {
        Self { version: VERSION, logins: BTreeMap::new() }
    }
}

/// Held while a login is renewed, so that two processes don't use one refresh
/// token: an issuer that rotates them would end the login.
#[derive(Debug)]
pub struct Held {
    _lock: fs::File,
}

impl Store {
    /// A store that prefers the keyring and falls back to `file`.
    pub fn with_keyring(file: PathBuf) -> Self {
        Self { file, uses_keyring: true }
    }

    /// A store that uses `file` alone.
    pub fn in_file(file: PathBuf) -> Self {
        Self { file, uses_keyring: false }
    }

    /// Keeps the login for `server`, instead of one that may be there.
    pub fn save(&self, server: &Url, login: &Login) -> Result<Place, Error> {
        let because = if self.uses_keyring {
            let text = serde_json::to_string(login).map_err(|error| self.failed("write", error))?;
            match keyring(server, Request::Set(text)) {
                Ok(_) => {
                    self.change(|logins| logins.remove(server.as_str()).is_some())?;
                    return Ok(Place::Keyring);
                }
                Err(error) => Some(error.to_string()),
            }
        } else {
            None
        };
        self.change(|logins| {
            logins.insert(server.to_string(), login.clone());
            true
        })?;
        Ok(Place::File { file: self.file.clone(), because })
    }

    /// The login for `server`. The file comes first: it is there only where the
    /// keyring was not.
    pub fn load(&self, server: &Url) -> Result<Option<(Login, Place)>, Error> {
        if let Some(login) = self.read()?.logins.remove(server.as_str()) {
            return Ok(Some((login, Place::File { file: self.file.clone(), because: None })));
        }
        if !self.uses_keyring {
            return Ok(None);
        }
        let text = match keyring(server, Request::Get) {
            Ok(Some(text)) => text,
            Ok(None) | Err(Unavailable::Absent(_)) => return Ok(None),
            Err(Unavailable::Silent(why)) => return Err(Error::Keyring(why)),
        };
        let login = serde_json::from_str(&text).map_err(|_| {
            Error::Keyring("its entry is damaged; `pgate logout`, then `pgate login`".into())
        })?;
        Ok(Some((login, Place::Keyring)))
    }

    /// Forgets the login for `server`; whether there was one.
    pub fn remove(&self, server: &Url) -> Result<bool, Error> {
        let in_file = self.change(|logins| logins.remove(server.as_str()).is_some())?;
        if !self.uses_keyring {
            return Ok(in_file);
        }
        match keyring(server, Request::Delete) {
            Ok(found) => Ok(in_file || found.is_some()),
            Err(Unavailable::Absent(_)) => Ok(in_file),
            Err(Unavailable::Silent(why)) => Err(Error::Keyring(why)),
        }
    }

    /// Whether a keyring can be used, and if not, why.
    pub fn check_keyring(&self) -> Result<(), String> {
        if !self.uses_keyring {
            return Err("switched off".into());
        }
        let nowhere = Url::parse("https://keyring.invalid/").map_err(|error| error.to_string())?;
        keyring(&nowhere, Request::Get).map(|_| ()).map_err(|error| error.to_string())
    }

    /// Takes the lock under which logins are renewed; waits for another process.
    pub fn hold(&self) -> Result<Held, Error> {
        let path = self.file.with_extension("lock");
        self.make_folder()?;
        let mut options = fs::File::options();
        options.create(true).truncate(false).write(true);
        let lock = private(&mut options)
            .open(&path)
            .map_err(|error| self.failed("open the lock beside", error))?;
        let deadline = Instant::now() + OTHERS;
        loop {
            match lock.try_lock() {
                Ok(()) => return Ok(Held { _lock: lock }),
                Err(fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(50));
                }
                Err(fs::TryLockError::WouldBlock) => return Err(Error::Busy { file: path }),
                Err(fs::TryLockError::Error(error)) => return Err(self.failed("lock", error)),
            }
        }
    }

    /// Changes the file where `change` says that it has changed something.
    fn change(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, Login>) -> bool,
    ) -> Result<bool, Error> {
        let mut content = self.read()?;
        let changed = change(&mut content.logins);
        if changed {
            self.write(&content)?;
        }
        Ok(changed)
    }

    fn read(&self) -> Result<Content, Error> {
        let file = match fs::File::open(&self.file) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Content::default()),
            Err(error) => return Err(self.failed("read", error)),
        };
        let facts = file.metadata().map_err(|error| self.failed("read", error))?;
        if let Some(mode) = exposed(&facts) {
            return Err(Error::Exposed { file: self.file.clone(), mode });
        }
        let damaged = |problem: String| Error::Damaged { file: self.file.clone(), problem };
        if facts.len() > LARGEST {
            return Err(damaged("it is too large".into()));
        }
        let content: Content =
            serde_json::from_reader(io::BufReader::new(file)).map_err(|error| {
                // The message could quote a token, so only the place is told.
                damaged(format!("line {}, column {}", error.line(), error.column()))
            })?;
        if content.version != VERSION {
            return Err(damaged(format!("it has the unknown version {}", content.version)));
        }
        Ok(content)
    }

    /// Writes a new file and puts it in place of the old one at once.
    fn write(&self, content: &Content) -> Result<(), Error> {
        let folder = self.make_folder()?;
        let failed = |error: io::Error| self.failed("write", error);
        let mut file =
            tempfile::Builder::new().prefix(".logins-").tempfile_in(folder).map_err(failed)?;
        serde_json::to_writer_pretty(&mut file, content)
            .map_err(|error| self.failed("write", error))?;
        file.write_all(b"\n").and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        file.persist(&self.file).map_err(|error| failed(error.error))?;
        Ok(())
    }

    fn make_folder(&self) -> Result<&Path, Error> {
        let folder = self.file.parent().unwrap_or(Path::new("."));
        make_private_folder(folder).map_err(|error| self.failed("make the folder of", error))?;
        Ok(folder)
    }

    fn failed(&self, action: &'static str, problem: impl ToString) -> Error {
        Error::File { action, file: self.file.clone(), problem: problem.to_string() }
    }
}

enum Request {
    Get,
    Set(String),
    Delete,
}

/// Why the keyring gave no answer.
#[derive(Debug, thiserror::Error)]
enum Unavailable {
    /// There is none.
    #[error("there is no keyring here ({0})")]
    Absent(String),
    /// There is one and it does not answer as it should.
    #[error("{0}")]
    Silent(String),
}

/// Asks the keyring on a thread of its own, which is left behind where the
/// keyring never answers. The entry's text before the request, if any.
fn keyring(server: &Url, request: Request) -> Result<Option<String>, Unavailable> {
    if let Some(reason) = no_bus() {
        return Err(Unavailable::Absent(reason));
    }
    let (answer, answered) = mpsc::channel();
    let server = server.to_string();
    let asking = thread::Builder::new().name("keyring".into()).spawn(move || {
        // Nobody listens any more once the patience has run out.
        let _ = answer.send(ask(&server, request));
    });
    asking.map_err(|error| Unavailable::Absent(error.to_string()))?;
    match answered.recv_timeout(PATIENCE) {
        Ok(answer) => answer,
        Err(mpsc::RecvTimeoutError::Timeout) => Err(Unavailable::Silent(format!(
            "the keyring gave no answer within {} seconds",
            PATIENCE.as_secs()
        ))),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            Err(Unavailable::Absent("the keyring's library failed".into()))
        }
    }
}

fn ask(server: &str, request: Request) -> Result<Option<String>, Unavailable> {
    use keyring::Error as Keyring;
    if let Err(error) = keyring::Entry::store_status() {
        return Err(Unavailable::Absent(error.to_string()));
    }
    let outcome = keyring::Entry::new(SERVICE, server).and_then(|entry| match request {
        Request::Get => entry.get_password().map(Some),
        Request::Set(text) => entry.set_password(&text).map(|()| None),
        Request::Delete => entry.delete_credential().map(|()| Some(String::new())),
    });
    match outcome {
        Ok(text) => Ok(text),
        Err(Keyring::NoEntry) => Ok(None),
        Err(error @ (Keyring::NoDefaultStore | Keyring::PlatformFailure(_))) => {
            Err(Unavailable::Absent(error.to_string()))
        }
        Err(error) => Err(Unavailable::Silent(error.to_string())),
    }
}

/// Why there can be no keyring at all, where that can be told without asking:
/// the Secret Service lives on the session bus.
#[cfg(all(unix, not(target_os = "macos")))]
fn no_bus() -> Option<String> {
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty());
    if set("DBUS_SESSION_BUS_ADDRESS").is_some() {
        return None;
    }
    let runtime = set("XDG_RUNTIME_DIR").map(PathBuf::from);
    let bus = runtime.is_some_and(|folder| folder.join("bus").exists());
    (!bus).then(|| "no session bus".into())
}

#[cfg(not(all(unix, not(target_os = "macos"))))]
fn no_bus() -> Option<String> {
    None
}

#[cfg(unix)]
fn private(options: &mut fs::OpenOptions) -> &mut fs::OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    options.mode(0o600)
}

#[cfg(not(unix))]
fn private(options: &mut fs::OpenOptions) -> &mut fs::OpenOptions {
    options
}

#[cfg(unix)]
fn make_private_folder(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make_private_folder(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

/// The permission bits where they let others in.
#[cfg(unix)]
fn exposed(facts: &fs::Metadata) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = facts.permissions().mode() & 0o777;
    (mode & 0o077 != 0).then_some(mode)
}

#[cfg(not(unix))]
fn exposed(_facts: &fs::Metadata) -> Option<u32> {
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use jiff::Timestamp;
    use secrecy::ExposeSecret as _;

    use super::*;

    fn url(text: &str) -> Url {
        text.parse().expect("a URL")
    }

    fn login(subject: &str) -> Login {
        Login::for_tests(subject, Timestamp::UNIX_EPOCH, 3600)
    }

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::in_file(folder.path().join("deep/logins.json"));
        (folder, store)
    }

    #[test]
    fn each_server_has_its_own_login_in_a_file_for_its_owner_alone() {
        let (_folder, store) = store();
        let (one, two) = (url("https://one.example"), url("https://two.example"));
        assert!(store.load(&one).expect("readable").is_none());
        store.save(&one, &login("ana")).expect("saved");
        store.save(&two, &login("bo")).expect("saved");
        let mode = fs::metadata(&store.file).expect("there").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600);
        let (kept, _) = store.load(&one).expect("readable").expect("there");
        assert_eq!(kept.id_token().expose_secret(), "secret-id-token-of-ana");
        assert!(store.remove(&one).expect("removed"));
        assert!(!store.remove(&one).expect("nothing there"));
        assert_eq!(store.load(&two).expect("readable").expect("there").0.who(), "bo");
    }

    #[test]
    fn a_damaged_file_is_an_error_that_quotes_nothing_and_shows_the_way_out() {
        let (_folder, store) = store();
        let server = url("https://one.example");
        store.save(&server, &login("ana")).expect("saved");
        let good = fs::read_to_string(&store.file).expect("readable");
        for bad in [
            String::new(),
            "secret-id-token".into(),
            good[..good.len() / 2].to_owned(),
            good.replace("\"received_at\"", "\"secret-id\""),
            good.replace("\"version\": 1", "\"version\": 9"),
        ] {
            fs::write(&store.file, &bad).expect("written");
            let error = store.load(&server).expect_err("damaged");
            assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
            assert!(!format!("{error} {error:?}").contains("secret-id"), "{error:?}");
            assert!(error.hint().is_some_and(|hint| hint.contains("logins.json")));
        }
    }

    #[test]
    fn a_file_that_others_can_read_is_not_used() {
        let (_folder, store) = store();
        let server = url("https://one.example");
        store.save(&server, &login("ana")).expect("saved");
        fs::set_permissions(&store.file, fs::Permissions::from_mode(0o644)).expect("changed");
        assert!(matches!(store.load(&server), Err(Error::Exposed { mode: 0o644, .. })));
    }

    #[test]
    fn one_process_renews_at_a_time() {
        let (_folder, store) = store();
        let held = store.hold().expect("free");
        let other = store.clone();
        let waiting = thread::spawn(move || other.hold().map(|_| Instant::now()));
        thread::sleep(Duration::from_millis(200));
        let released = Instant::now();
        drop(held);
        let taken = waiting.join().expect("no panic").expect("free at last");
        assert!(taken >= released);
    }
}
