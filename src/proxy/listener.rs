//! Where clients connect: a Unix socket in a private folder, and a port on 127.0.0.1.
//!
//! Owns the folder's permissions and its removal, that of folders of killed processes
//! included. It refuses any other address.

use std::{
    io,
    net::Ipv4Addr,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::net::{TcpListener, UnixListener};

use super::stream::{self, Stream};

/// The longest path of a Unix socket that every system takes, in bytes.
const LONGEST_PATH: usize = 100;

/// Why nobody can connect.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The port is taken, or not ours to take.
    #[error("127.0.0.1:{port} can't be listened on: {error}")]
    Port {
        /// The port; 0 for any.
        port: u16,
        /// Why not.
        error: io::Error,
    },
    /// The folder can't be made or used.
    #[error("the socket folder {folder} can't be used: {why}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        why: String,
    },
}

/// What the names of our own folders begin with.
const PREFIX: &str = "pgate-";
/// A folder younger than this may belong to somebody who is about to listen.
const SETTLED: Duration = Duration::from_secs(60);

/// The socket's folder; removed when dropped, where we have made it.
#[derive(Debug)]
enum Folder {
    Fresh(tempfile::TempDir),
    Made(PathBuf),
    Found(PathBuf),
}

impl Folder {
    fn path(&self) -> &Path {
        match self {
            Self::Fresh(folder) => folder.path(),
            Self::Made(path) | Self::Found(path) => path,
        }
    }

    /// Makes a fresh private folder, or takes the given one: made where it isn't there,
    /// refused where anybody else may enter it.
    fn open(wanted: Option<&Path>) -> Result<Self, ListenError> {
        let Some(wanted) = wanted else { return Self::fresh() };
        let fail = |why: String| ListenError::Folder { folder: wanted.to_owned(), why };
        match std::fs::DirBuilder::new().mode(0o700).create(wanted) {
            Ok(()) => Ok(Self::Made(wanted.to_owned())),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let found =
                    std::fs::symlink_metadata(wanted).map_err(|error| fail(error.to_string()))?;
                if !found.is_dir() {
                    return Err(fail("it is not a folder".to_owned()));
                }
                if found.uid() != own_uid() || found.mode() & 0o077 != 0 {
                    return Err(fail(
                        "it must belong to you and be closed to others (chmod 700)".to_owned(),
                    ));
                }
                Ok(Self::Found(wanted.to_owned()))
            }
            Err(error) => Err(fail(error.to_string())),
        }
    }

    fn fresh() -> Result<Self, ListenError> {
        let make = |base: &Path| {
            sweep(base);
            tempfile::Builder::new()
                .prefix(PREFIX)
                .permissions(std::fs::Permissions::from_mode(0o700))
                .tempdir_in(base)
        };
        let base = std::env::temp_dir();
        let roomy = base.as_os_str().len() + "/pgate-123456/.s.PGSQL.65535".len() <= LONGEST_PATH;
        let made = if roomy { make(&base) } else { make(Path::new("/tmp")) };
        made.map(Self::Fresh)
            .map_err(|error| ListenError::Folder { folder: base, why: error.to_string() })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Self::Made(path) = self {
            // Somebody may have put something of theirs into it: then it stays.
            let _ = std::fs::remove_dir(path);
        }
    }
}

/// Removes our folders of processes that were killed: those that hold a socket on which
/// nobody listens, and nothing else.
fn sweep(base: &Path) {
    let entries = std::fs::read_dir(base).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PREFIX));
    for folder in ours.map(|entry| entry.path()) {
        if let Some(socket) = abandoned(&folder)
            && std::fs::remove_file(socket).is_ok()
        {
            // Somebody else's removal may have come first.
            let _ = std::fs::remove_dir(&folder);
        }
    }
}

/// The socket in a folder of ours that a dead process left.
fn abandoned(folder: &Path) -> Option<PathBuf> {
    let about = std::fs::symlink_metadata(folder).ok()?;
    let settled = about.modified().ok()?.elapsed().is_ok_and(|age| age > SETTLED);
    if !about.is_dir() || about.uid() != own_uid() || about.mode() & 0o077 != 0 || !settled {
        return None;
    }
    let mut entries = std::fs::read_dir(folder).ok()?;
    let socket = entries.next()?.ok()?;
    let alone = entries.next().is_none() && socket.file_type().ok()?.is_socket();
    let named = socket.file_name().to_string_lossy().starts_with(".s.PGSQL.");
    let answer = (alone && named).then(|| std::os::unix::net::UnixStream::connect(socket.path()));
    match answer? {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Some(socket.path()),
        _ => None,
    }
}

/// The socket file; removed when dropped.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may be gone with its folder.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A client at the door.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) stream: Stream,
    pub(super) transport: &'static str,
    /// Its user id is our own: the kernel says so.
    pub(super) trusted: bool,
}

/// Both sockets.
#[derive(Debug)]
pub(super) struct Listener {
    tcp: TcpListener,
    unix: UnixListener,
    port: u16,
    // In this order: the file goes before its folder.
    _socket: SocketFile,
    folder: Folder,
}

/// Our own user id.
fn own_uid() -> u32 {
    rustix::process::geteuid().as_raw()
}

impl Listener {
    /// Listens. `port` 0 takes a free one.
    pub(super) async fn bind(port: u16, folder: Option<&Path>) -> Result<Self, ListenError> {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .map_err(|error| ListenError::Port { port, error })?;
        let port = tcp.local_addr().map_err(|error| ListenError::Port { port, error })?.port();
        let folder = Folder::open(folder)?;
        let path = folder.path().join(format!(".s.PGSQL.{port}"));
        let fail = |why: String| ListenError::Folder { folder: folder.path().to_owned(), why };
        if path.as_os_str().len() > LONGEST_PATH {
            return Err(fail(format!("its path is longer than {LONGEST_PATH} bytes")));
        }
        let unix = UnixListener::bind(&path).map_err(|error| fail(error.to_string()))?;
        Ok(Self { tcp, unix, port, _socket: SocketFile(path), folder })
    }

    /// The port, which also names the socket file.
    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// The folder of the socket file.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Waits for the next client.
    pub(super) async fn accept(&self) -> io::Result<Caller> {
        tokio::select! {
            unix = self.unix.accept() => {
                let (stream, _) = unix?;
                let trusted = stream.peer_cred().is_ok_and(|peer| peer.uid() == own_uid());
                Ok(Caller { stream: Stream::Unix(stream), transport: "unix", trusted })
            }
            tcp = self.tcp.accept() => {
                let (stream, peer) = tcp?;
                // They fail for a client that has gone again, which reading will show.
                let _ = stream.set_nodelay(true).and_then(|()| stream::keep_alive(&stream, peer));
                Ok(Caller { stream: Stream::Tcp(stream), transport: "tcp", trusted: false })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_socket_lies_in_a_private_folder_that_goes_with_it() {
        let listener = Listener::bind(0, None).await.unwrap();
        let folder = listener.folder().to_owned();
        let mode = std::fs::metadata(&folder).unwrap().mode() & 0o777;
        assert_eq!(mode, 0o700);
        assert!(folder.join(format!(".s.PGSQL.{}", listener.port())).exists());
        drop(listener);
        assert!(!folder.exists());
    }

    #[tokio::test]
    async fn the_folders_of_the_dead_are_swept_and_no_others() {
        let base = tempfile::tempdir().unwrap();
        let folder = |name: &str, socket: &str| {
            let folder = base.path().join(name);
            std::fs::DirBuilder::new().mode(0o700).create(&folder).unwrap();
            (std::os::unix::net::UnixListener::bind(folder.join(socket)).unwrap(), folder)
        };
        let age = |folder: &Path| {
            let past = std::time::SystemTime::now() - 2 * SETTLED;
            std::fs::File::open(folder).unwrap().set_modified(past).unwrap();
        };
        let (alive, lives) = folder("pgate-lives", ".s.PGSQL.1");
        let (_, dead) = folder("pgate-dead", ".s.PGSQL.1");
        let (_, young) = folder("pgate-young", ".s.PGSQL.1");
        let (_, other) = folder("pgate-other", "socket");
        let (_, full) = folder("pgate-full", ".s.PGSQL.1");
        std::fs::write(full.join("note"), "").unwrap();
        let (_, foreign) = folder("foreign", ".s.PGSQL.1");
        for old in [&lives, &dead, &other, &full, &foreign] {
            age(old);
        }
        sweep(base.path());
        assert!(!dead.exists());
        for left in [lives, young, other, full, foreign] {
            assert_eq!(std::fs::read_dir(&left).unwrap().count().min(1), 1, "{left:?}");
        }
        drop(alive);
    }

    #[tokio::test]
    async fn a_given_folder_must_be_private() {
        let base = tempfile::tempdir().unwrap();
        let open = base.path().join("open");
        std::fs::create_dir(&open).unwrap();
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o755)).unwrap();
        assert!(matches!(Listener::bind(0, Some(&open)).await, Err(ListenError::Folder { .. })));
        let fresh = base.path().join("fresh");
        drop(Listener::bind(0, Some(&fresh)).await.unwrap());
        assert!(!fresh.exists());
        std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o700)).unwrap();
        drop(Listener::bind(0, Some(&open)).await.unwrap());
        assert!(open.exists() && std::fs::read_dir(&open).unwrap().next().is_none());
    }
}
