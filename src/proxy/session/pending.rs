//! The queue of what the server still has to answer, in the order of the requests.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use super::{
    names::{Portal, Prepared},
    recorded::Recorded,
    returned::Left,
};
use crate::{
    journal::Completion,
    mask::{Column, Detected},
    proxy::admission::{Permit, Refusal},
};

/// The longest list of command tags that a completion names, in bytes.
const LONGEST_TAGS: usize = 512;

/// Where a COPY stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copy {
    /// There is none.
    No,
    /// The server takes data; whether the client has sent some.
    In { data: bool },
    /// The server sends data.
    Out,
}

/// A statement that the server runs.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) permit: Arc<Permit>,
    /// The portal that is run; none for a Query.
    pub(super) portal: Option<Arc<str>>,
    pub(super) started: Duration,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    pub(super) tags: String,
    pub(super) sqlstate: Option<String>,
    pub(super) left: Left,
    pub(super) copy: Copy,
    /// Whether COPY sends its data in binary.
    pub(super) copy_binary: bool,
    /// The columns of its rows, as far as they are known.
    pub(super) columns: Option<Arc<[Column]>>,
    /// What was found in its rows.
    pub(super) detected: Detected,
    /// What the log keeps of them, where the role has them recorded.
    pub(super) recorded: Option<Box<Recorded>>,
    /// What is executed; none for a Query.
    pub(super) executes: Option<Arc<Portal>>,
    /// Where its message ends in all that goes to the server.
    pub(super) sent_at: u64,
    /// Whether it can't take effect any more, whatever the server says of it: the machine was
    /// to commit it, and won't.
    pub(super) is_undone: bool,
}

impl Run {
    pub(super) fn new(permit: Arc<Permit>, portal: Option<Arc<str>>, now: Duration) -> Self {
        Self {
            permit,
            portal,
            started: now,
            rows: 0,
            bytes: 0,
            tags: String::new(),
            sqlstate: None,
            left: Left::Unasked,
            copy: Copy::No,
            copy_binary: false,
            columns: None,
            detected: Detected::new(),
            recorded: None,
            executes: None,
            sent_at: 0,
            is_undone: false,
        }
    }

    /// The run of this portal.
    pub(super) fn of_portal(self, portal: Arc<Portal>) -> Self {
        Self { executes: Some(portal), ..self }
    }

    /// The columns of its rows; none where they aren't known.
    pub(super) fn columns(&mut self) -> Arc<[Column]> {
        let executes = &self.executes;
        let known = self.columns.get_or_insert_with(|| match executes {
            Some(portal) => portal.columns(),
            None => Arc::default(),
        });
        Arc::clone(known)
    }

    pub(super) fn add_tag(&mut self, tag: &str) {
        if self.tags.len() + tag.len() < LONGEST_TAGS {
            if !self.tags.is_empty() {
                self.tags.push_str("; ");
            }
            self.tags.push_str(tag);
        }
    }

    pub(super) fn completion(self, connection: u32, now: Duration) -> Completion {
        let duration = now.saturating_sub(self.started);
        Completion {
            connection,
            statement: self.permit.statement(),
            tag: (!self.tags.is_empty()).then_some(self.tags),
            rows: self.rows,
            bytes: self.bytes,
            duration_us: u64::try_from(duration.as_micros()).unwrap_or(u64::MAX),
            sqlstate: self.sqlstate,
        }
    }
}

/// Which of its responses a Describe waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Describe {
    /// ParameterDescription, then the row.
    Parameters,
    /// RowDescription or NoData.
    Row,
}

/// Where in the protocol a refused message stood: what follows its error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A Query or a FunctionCall: ReadyForQuery follows.
    Simple,
    /// A Parse of this statement's name, a Bind or an Execute: the server skips to Sync.
    Extended,
}

/// What the server still has to answer.
#[derive(Debug)]
pub(super) enum Expected {
    Parse {
        name: Arc<str>,
        prepared: Arc<Prepared>,
    },
    Bind {
        name: Arc<str>,
        portal: Arc<Portal>,
    },
    Describe(Describe),
    /// The machine's own, behind a Parse: the client sees none of its answers.
    OwnDescribe(Describe, Arc<Prepared>),
    /// The machine's own, ahead of a write that came as a Query and whose rows are
    /// counted: the client sees none of their answers.
    OwnParse(Arc<Permit>),
    OwnBind(Arc<Permit>),
    /// The same, of whose answers the client sees a RowDescription.
    QueryDescribe,
    /// The same, behind it.
    OwnClose,
    CloseStatement(Arc<str>),
    ClosePortal(Arc<str>),
    Execute(Run),
    Query(Run),
    Sync {
        part: u64,
    },
    /// The machine's own, while a held statement waits: the client sees no answer.
    OwnSync,
    /// CopyDone or CopyFail: no answer of its own.
    CopyEnd,
    Refused {
        refusal: Refusal,
        place: Place,
        unnamed_parse: bool,
    },
}

impl Expected {
    /// Whether it belongs to a part of the pipeline that only a Sync ends.
    fn is_extended(&self) -> bool {
        match self {
            Self::Parse { .. }
            | Self::Bind { .. }
            | Self::Describe(_)
            | Self::OwnDescribe(..)
            | Self::OwnParse(_)
            | Self::OwnBind(_)
            | Self::QueryDescribe
            | Self::OwnClose
            | Self::CloseStatement(_)
            | Self::ClosePortal(_)
            | Self::Execute(_)
            | Self::Refused { place: Place::Extended, .. } => true,
            Self::Query(_)
            | Self::Sync { .. }
            | Self::OwnSync
            | Self::CopyEnd
            | Self::Refused { place: Place::Simple, .. } => false,
        }
    }

    fn run(&self) -> Option<&Run> {
        match self {
            Self::Execute(run) | Self::Query(run) => Some(run),
            _ => None,
        }
    }

    fn into_run(self) -> Option<Run> {
        match self {
            Self::Execute(run) | Self::Query(run) => Some(run),
            _ => None,
        }
    }

    fn run_mut(&mut self) -> Option<&mut Run> {
        match self {
            Self::Execute(run) | Self::Query(run) => Some(run),
            _ => None,
        }
    }
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Pending {
    queue: VecDeque<Expected>,
    /// Statements that were sent amid the data of a COPY: nobody knows whether the server has
    /// read them as such, and no answer is taken for theirs.
    adrift: Vec<Run>,
    /// An error has come, and the server skips what comes before the next Sync.
    skipping: bool,
    over_limit: bool,
    /// Something of the extended protocol has gone out since the last Sync.
    amid_part: bool,
}

impl Pending {
    /// Whether the server waits for its next statement, between two parts.
    pub(super) fn is_at_rest(&self) -> bool {
        self.queue.is_empty() && !self.amid_part && !self.skipping
    }

    /// Whether an error that answers to nothing makes the server skip to the next Sync:
    /// its statement_timeout runs while it waits for the rest of a part, say.
    pub(super) fn is_amid_part(&self) -> bool {
        self.amid_part
    }

    /// Whether the server is known to skip everything before the next Sync.
    pub(super) fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// Whether the statement at the front is being cancelled for its many rows.
    pub(super) fn is_over_limit(&self) -> bool {
        self.over_limit
    }

    /// Whether anything is being run.
    pub(super) fn in_flight(&self) -> bool {
        let answers =
            |expected: &Expected| !matches!(expected, Expected::CopyEnd | Expected::OwnSync);
        self.queue.iter().any(answers)
    }

    /// Whether the outcome of a statement is still to come.
    pub(super) fn has_runs(&self) -> bool {
        self.queue.iter().any(|expected| expected.run().is_some())
    }

    /// The statement that was asked last.
    pub(super) fn last_run(&mut self) -> Option<&mut Run> {
        self.queue.iter_mut().rev().find_map(Expected::run_mut)
    }

    /// Takes off the end what the server hasn't been asked, by where in what goes to it
    /// messages end. Returns the statements.
    pub(super) fn take_unsent(&mut self, has_gone: impl Fn(u64) -> bool) -> Vec<Run> {
        let unsent = |expected: &Expected| expected.run().is_some_and(|run| !has_gone(run.sent_at));
        let Some(first) = self.queue.iter().position(unsent) else { return Vec::new() };
        runs(self.queue.split_off(first))
    }

    /// The first that the server has to answer. Ends of a COPY that isn't on have
    /// no answer.
    pub(super) fn front(&mut self) -> Option<&mut Expected> {
        while matches!(self.queue.front(), Some(Expected::CopyEnd)) {
            self.queue.pop_front();
        }
        self.queue.front_mut()
    }

    /// The statement that is running.
    pub(super) fn run(&mut self) -> Option<&mut Run> {
        self.front().and_then(Expected::run_mut)
    }

    pub(super) fn pop(&mut self) -> Option<Expected> {
        self.over_limit = false;
        self.queue.pop_front()
    }

    pub(super) fn set_over_limit(&mut self) {
        self.over_limit = true;
    }

    /// Queues what a request waits for.
    pub(super) fn push(&mut self, expected: Expected) {
        self.amid_part |= expected.is_extended();
        if let Some(front) = self.front()
            && let Some(run) = front.run_mut()
            && let Copy::In { .. } = run.copy
        {
            // Only data may follow now: the server fails the COPY. In the simple
            // protocol it has eaten the message; else it skips to the next Sync.
            run.copy = Copy::No;
            if matches!(front, Expected::Query(_)) {
                self.adrift.extend(expected.into_run());
                return;
            }
        }
        self.queue.push_back(expected);
    }

    /// Queues a Sync; `Err` where it stands amid the data of a COPY, where nobody
    /// can tell whether the server will heed it.
    pub(super) fn push_sync(&mut self, part: u64) -> Result<Sync, ()> {
        self.skipping = false;
        self.amid_part = false;
        match self.run().map(|run| run.copy) {
            // The server ignores it during COPY.
            Some(Copy::In { data: false }) => return Ok(Sync::Ignored),
            Some(Copy::In { data: true }) => return Err(()),
            _ => {}
        }
        self.queue.push_back(Expected::Sync { part });
        Ok(Sync::Awaited)
    }

    /// Whether the server takes data of a COPY.
    pub(super) fn takes_copy_data(&self) -> bool {
        matches!(self.queue.front(), Some(Expected::Execute(Run { copy: Copy::In { .. }, .. })))
    }

    /// The same of any statement, a Query included.
    pub(super) fn is_copying_in(&mut self) -> bool {
        self.run().is_some_and(|run| matches!(run.copy, Copy::In { .. }))
    }

    /// A CopyDone or CopyFail goes to the server.
    pub(super) fn push_copy_end(&mut self) {
        if let Some(run) = self.run()
            && matches!(run.copy, Copy::In { .. })
        {
            run.copy = Copy::No;
        } else if !self.queue.is_empty() {
            self.queue.push_back(Expected::CopyEnd);
        }
    }

    /// A CopyData goes to the server.
    pub(super) fn copy_data(&mut self) {
        if let Some(run) = self.run()
            && let Copy::In { data } = &mut run.copy
        {
            *data = true;
        }
    }

    /// The server takes data for the statement at the front: what has been sent
    /// behind it is read as COPY's. Returns the last part whose Sync it so ignores.
    pub(super) fn copy_in(&mut self) -> Option<u64> {
        let mut ignores = None;
        let simple = matches!(self.queue.front(), Some(Expected::Query(_)));
        let mut copy = Copy::In { data: false };
        while let Some(next) = self.queue.get(1) {
            match next {
                Expected::Sync { part } => {
                    ignores = Some(*part);
                    self.queue.remove(1);
                    let behind = self.queue.iter().rev();
                    let mut behind = behind.take_while(|e| !matches!(e, Expected::Sync { .. }));
                    self.amid_part = behind.any(Expected::is_extended);
                }
                Expected::CopyEnd => {
                    self.queue.remove(1);
                    copy = Copy::No;
                    break;
                }
                _ => {
                    if simple {
                        let eaten = self.queue.remove(1).and_then(Expected::into_run);
                        self.adrift.extend(eaten);
                    }
                    copy = Copy::No;
                    break;
                }
            }
        }
        if let Some(run) = self.run() {
            run.copy = copy;
        }
        ignores
    }

    /// The statement at the front is no longer being cancelled for its many rows.
    pub(super) fn end_over_limit(&mut self) {
        self.over_limit = false;
    }

    /// The server skips what comes before the next Sync. Returns the statements that it
    /// therefore never runs.
    pub(super) fn skip_to_sync(&mut self) -> Vec<Run> {
        let mut unrun = Vec::new();
        while let Some(front) = self.queue.front() {
            if matches!(front, Expected::Sync { .. }) {
                return unrun;
            }
            if let Some(Expected::Execute(run) | Expected::Query(run)) = self.queue.pop_front() {
                unrun.push(run);
            }
        }
        self.skipping = true;
        unrun
    }

    /// Whether a Query that the machine sends in the extended protocol stands behind what
    /// is at the front.
    pub(super) fn has_own_parse_behind(&self) -> bool {
        self.queue.iter().skip(1).any(|expected| matches!(expected, Expected::OwnParse(_)))
    }

    /// Nothing is expected any more. Returns the statements whose outcome was.
    pub(super) fn abandon(&mut self) -> Vec<Run> {
        let mut abandoned = runs(std::mem::take(&mut self.queue));
        abandoned.append(&mut self.adrift);
        abandoned
    }

    /// What is queued to run never will, for this error.
    pub(super) fn fail_queued(&mut self, sqlstate: &str) {
        for run in self.queue.iter_mut().filter_map(Expected::run_mut) {
            run.sqlstate = Some(sqlstate.to_owned());
        }
    }

    /// Whether something else than the Sync follows in the front's part of the pipeline.
    pub(super) fn is_followed(&self) -> bool {
        self.queue
            .iter()
            .skip(1)
            .take_while(|expected| !matches!(expected, Expected::Sync { .. }))
            .any(|expected| !matches!(expected, Expected::CopyEnd))
    }
}

fn runs(expected: VecDeque<Expected>) -> Vec<Run> {
    expected.into_iter().filter_map(Expected::into_run).collect()
}

/// What becomes of a Sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sync {
    /// ReadyForQuery will answer it.
    Awaited,
    /// Nothing will.
    Ignored,
}
