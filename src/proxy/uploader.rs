//! The uploader: brings a spooled log to the control plane, while the session
//! runs, when it ends, and after its process has died.
//!
//! Owns the cursor into the log and the patience with an absent server. It never
//! holds a statement up, and it refuses to remove a log that the control plane
//! has not received whole.

use std::{
    fs::File,
    io::{self, BufReader, Read as _, Seek as _, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use secrecy::SecretString;
use tokio::{
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep, timeout_at},
};

use super::spool::{Orphan, OrphanError, Spool, orphans};
use crate::{
    api::{self, Client},
    grant::SessionId,
    journal::{LONGEST_SEGMENT, LineHash, Lines, Receipt},
};

/// How often new lines go up.
const PERIOD: Duration = Duration::from_secs(1);
/// The longest pause after failures.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The first pause between attempts of the last upload.
const SHORT_PAUSE: Duration = Duration::from_millis(250);
/// Bytes that one upload holds, unless one line is longer.
const SEGMENT: u64 = 4 * 1024 * 1024;

/// Why a log didn't reach the control plane.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The control plane didn't take it.
    #[error(transparent)]
    Server(#[from] api::Error),
    /// The log can't be read.
    #[error("the session log can't be read: {0}")]
    Log(#[from] io::Error),
    /// The control plane says that it has other lines than these.
    #[error(
        "the control plane's receipt doesn't fit this log at line {seq}: it has received \
         something else"
    )]
    WrongReceipt {
        /// The line's number.
        seq: u64,
    },
    /// There was no time left.
    #[error("the control plane didn't answer in time")]
    TooSlow,
}

impl UploadError {
    /// Whether the same upload may work a little later.
    fn may_pass(&self) -> bool {
        match self {
            UploadError::Server(error) => error.may_pass(),
            UploadError::Log(_) | UploadError::WrongReceipt { .. } => false,
            UploadError::TooSlow => true,
        }
    }
}

/// What became of a log at its session's end.
#[derive(Debug)]
pub enum Outcome {
    /// The control plane has all of it, and this machine no longer.
    Uploaded,
    /// It stays in the spool, and goes up at the next run or with `pgate log upload`.
    Kept {
        /// Where.
        folder: PathBuf,
        /// Why.
        why: UploadError,
    },
}

/// The upload that runs beside a session. Dropped, it stops; the log stays.
#[derive(Debug)]
pub struct Uploader {
    spool: Arc<Spool>,
    finish: Option<oneshot::Sender<()>>,
    task: JoinHandle<Transfer>,
}

impl Uploader {
    /// Begins to upload `spool` each second, or as soon as 4 MiB wait.
    ///
    /// # Errors
    /// When the log can't be opened.
    pub fn start(
        spool: Arc<Spool>,
        client: Client,
        upload_token: SecretString,
    ) -> Result<Self, UploadError> {
        let (path, _) = spool.log();
        let transfer = Transfer {
            client,
            session: spool.session().clone(),
            upload_token,
            log: File::open(path)?,
            seq: 0,
            offset: 0,
        };
        let (finish, finished) = oneshot::channel();
        let task = tokio::spawn(run(Arc::clone(&spool), transfer, finished));
        Ok(Self { spool, finish: Some(finish), task })
    }

    /// Uploads the rest (the spool should have its end), closes the session at the
    /// control plane and removes the log from this machine, for at most `within`.
    pub async fn finish(mut self, within: Duration) -> Outcome {
        let deadline = Instant::now() + within;
        drop(self.finish.take());
        let done = match (&mut self.task).await {
            Ok(mut transfer) => transfer.complete(&*self.spool, deadline).await,
            Err(broken) => Err(io::Error::other(broken).into()),
        };
        match done.and_then(|()| Ok(self.spool.delete()?)) {
            Ok(()) => Outcome::Uploaded,
            Err(why) => Outcome::Kept { folder: self.spool.folder().to_owned(), why },
        }
    }
}

impl Drop for Uploader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Brings a log to its control plane that a process left behind when it died, by
/// the log's own right; then closes the session and removes the log. It is tried once:
/// whoever comes next tries again, and this one has something else to do.
///
/// # Errors
/// The log stays where it is.
pub async fn recover(orphan: Orphan, within: Duration) -> Result<(), UploadError> {
    let destination = orphan.destination();
    let mut transfer = Transfer {
        client: Client::without_login(&destination.server)?,
        session: orphan.session().clone(),
        upload_token: destination.upload_token.clone(),
        log: File::open(orphan.log().0)?,
        seq: 0,
        offset: 0,
    };
    let attempt = timeout_at(Instant::now() + within, transfer.all(&orphan)).await;
    attempt.unwrap_or(Err(UploadError::TooSlow))?;
    Ok(orphan.delete()?)
}

/// What became of a log that was left behind.
#[derive(Debug)]
pub struct Recovery {
    /// Its session; none where the folder can't be read.
    pub session: Option<SessionId>,
    /// The folder that held it, and still does where it failed.
    pub folder: PathBuf,
    /// Whether it went up.
    pub result: Result<(), UploadError>,
}

/// Recovers every log under `root` whose owner has died, one after another, each
/// for at most `within`. Logs in use are left alone.
pub async fn recover_all(root: &Path, within: Duration) -> Vec<Recovery> {
    let mut recoveries = Vec::new();
    for orphan in orphans(root) {
        recoveries.push(match orphan {
            Ok(orphan) => Recovery {
                session: Some(orphan.session().clone()),
                folder: orphan.folder().to_owned(),
                result: recover(orphan, within).await,
            },
            Err(OrphanError { folder, why }) => {
                Recovery { session: None, folder, result: Err(why.into()) }
            }
        });
    }
    recoveries
}

/// Uploads until it is told to finish; then it gives its cursor back. An upload
/// that is broken off then is sent again: the control plane recognises it.
async fn run(
    spool: Arc<Spool>,
    mut transfer: Transfer,
    mut finish: oneshot::Receiver<()>,
) -> Transfer {
    let mut pause = PERIOD;
    loop {
        tokio::select! {
            biased;
            _ = &mut finish => return transfer,
            () = sleep(pause) => {}
            () = spool.until_a_receipt_is_wanted() => {}
            () = spool.until_much_is_unsent(), if pause == PERIOD => {}
        }
        // Whoever appends next is told of a failed write; here it is no news.
        let _ = spool.checkpoint(Timestamp::now());
        let sent = tokio::select! {
            biased;
            _ = &mut finish => return transfer,
            sent = transfer.send_all(&*spool) => sent,
        };
        match sent {
            Ok(()) => pause = PERIOD,
            Err(why) if why.may_pass() => {
                tracing::info!(session = %spool.session(), %why, "the session log waits");
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
            Err(why) => {
                tracing::warn!(session = %spool.session(), %why, "the session log can't go up");
                pause = LONGEST_PAUSE;
            }
        }
    }
}

/// A log in the spool, of a living session or of a dead one.
trait Spooled {
    /// How many of its bytes are worth sending.
    fn length(&self) -> u64;
    /// Takes the control plane's receipt for its first `lines` lines, `sent` bytes.
    fn received(&self, receipt: Receipt, lines: u64, sent: u64);
}

impl Spooled for Spool {
    fn length(&self) -> u64 {
        self.log().1
    }

    fn received(&self, receipt: Receipt, lines: u64, sent: u64) {
        // The control plane keeps its receipt too. A full disk is told to whoever
        // appends next.
        let _ = Spool::received(self, receipt, lines, sent);
    }
}

impl Spooled for Orphan {
    fn length(&self) -> u64 {
        self.log().1
    }

    /// The log is about to be removed from this machine.
    fn received(&self, _: Receipt, _: u64, _: u64) {}
}

/// What a segment holds, to be held against its receipt.
struct Sent {
    lines: u64,
    bytes: u64,
    /// The hash of its last line.
    head: LineHash,
}

impl Sent {
    /// Of whole lines.
    fn of(segment: &[u8]) -> Self {
        let lines = segment.strip_suffix(b"\n").unwrap_or(segment);
        let begins = memchr::memrchr(b'\n', lines).map_or(0, |before| before + 1);
        let last = lines.get(begins..).unwrap_or_default();
        Self {
            lines: memchr::memchr_iter(b'\n', segment).count() as u64,
            bytes: segment.len() as u64,
            head: LineHash::of(last),
        }
    }
}

/// A log on its way: the next line to send, and where it begins.
#[derive(Debug)]
struct Transfer {
    client: Client,
    session: SessionId,
    upload_token: SecretString,
    log: File,
    seq: u64,
    offset: u64,
}

impl Transfer {
    /// Sends everything and closes the session, again and again until `deadline`.
    async fn complete(
        &mut self,
        spooled: &impl Spooled,
        deadline: Instant,
    ) -> Result<(), UploadError> {
        let mut pause = SHORT_PAUSE;
        loop {
            let why = match timeout_at(deadline, self.all(spooled)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(why)) => why,
                Err(_) => return Err(UploadError::TooSlow),
            };
            if !why.may_pass() || Instant::now() + pause >= deadline {
                return Err(why);
            }
            sleep(pause).await;
            pause *= 2;
        }
    }

    /// Sends everything and closes the session.
    async fn all(&mut self, spooled: &impl Spooled) -> Result<(), UploadError> {
        self.send_all(spooled).await?;
        self.close().await
    }

    /// Sends the lines that are there now and have not been received. Those that are
    /// written meanwhile wait for their turn: segments of a few lines each would keep the
    /// control plane busier than the statements keep the database.
    async fn send_all(&mut self, spooled: &impl Spooled) -> Result<(), UploadError> {
        let length = spooled.length();
        while self.offset < length {
            let (receipt, sent) = match self.send(length).await {
                // It may have lost what it had received: then it wants all of it again.
                Err(UploadError::Server(api::Error::Refused(_))) if self.seq > 0 => {
                    (self.seq, self.offset) = (0, 0);
                    self.send(length).await?
                }
                answer => answer?,
            };
            self.advance(&receipt, &sent)?;
            spooled.received(receipt, self.seq, self.offset);
        }
        Ok(())
    }

    /// Sends the next whole lines, of the log's first `length` bytes.
    async fn send(&mut self, length: u64) -> Result<(Receipt, Sent), UploadError> {
        let segment = self.segment(length)?;
        let sent = Sent::of(&segment);
        let (id, token) = (&self.session, &self.upload_token);
        Ok((self.client.upload_log(id, self.seq, segment, token).await?, sent))
    }

    /// A session that has ended at the control plane already is closed.
    async fn close(&self) -> Result<(), UploadError> {
        match self.client.close_session(&self.session, &self.upload_token).await {
            Ok(_) => Ok(()),
            Err(api::Error::Refused(problem)) if problem.status == 409 => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The next whole lines, of the log's first `length` bytes.
    fn segment(&mut self, length: u64) -> io::Result<Vec<u8>> {
        let rest = length.saturating_sub(self.offset);
        for most in [SEGMENT, LONGEST_SEGMENT as u64] {
            let mut bytes = Vec::new();
            self.log.seek(SeekFrom::Start(self.offset))?;
            (&self.log).take(rest.min(most)).read_to_end(&mut bytes)?;
            if let Some(end) = bytes.iter().rposition(|&byte| byte == b'\n') {
                bytes.truncate(end + 1);
                return Ok(bytes);
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, "no whole line where one should be"))
    }

    /// Moves on to the line after the one that the receipt is for, which must be
    /// the one that stands in the log. It may be further than what was just sent,
    /// where an earlier answer was lost.
    fn advance(&mut self, receipt: &Receipt, sent: &Sent) -> Result<(), UploadError> {
        let seq = receipt.received_seq;
        let wrong = || UploadError::WrongReceipt { seq };
        if seq.checked_add(1) == Some(self.seq + sent.lines) {
            if sent.head.to_string() != receipt.received_head {
                return Err(wrong());
            }
            (self.seq, self.offset) = (self.seq + sent.lines, self.offset + sent.bytes);
            return Ok(());
        }
        self.log.seek(SeekFrom::Start(self.offset))?;
        let (mut at, mut offset) = (self.seq, self.offset);
        for line in Lines::new(BufReader::new(&self.log)) {
            let line = line?;
            offset += line.bytes.len() as u64 + 1;
            if at == seq {
                if !line.ended || line.hash().to_string() != receipt.received_head {
                    return Err(wrong());
                }
                (self.seq, self.offset) = (at + 1, offset);
                return Ok(());
            }
            at += 1;
        }
        Err(wrong())
    }
}

#[cfg(test)]
mod tests;
