//! The thread on which statements are read: PostgreSQL's parser and the walk over
//! its tree recurse as deep as the statement does, so it has a stack that no
//! accepted statement can exhaust.
//!
//! A short statement is read where it stands, if that thread has such a stack too: to
//! wake another one costs more than to read it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc,
};

use tokio::sync::oneshot;

use crate::sql;

/// The longest statement that is read between moving bytes, in bytes. The worst that fits
/// takes some milliseconds, and the session's other connections wait for them.
const SHORT: usize = 2 * 1024;

type Work = Box<dyn FnOnce() + Send>;

/// A thread with a large stack that does what it is given, one after the other.
/// It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Analyst {
    inbox: mpsc::Sender<Work>,
}

/// The work panicked. Its statement must be refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the statement could not be analysed")]
pub(super) struct Unanalysed;

impl Analyst {
    pub(super) fn start() -> std::io::Result<Self> {
        let (inbox, work) = mpsc::channel::<Work>();
        sql::start_on_large_stack("pgate-analyst", move || {
            for task in work {
                // A panic must cost the one statement, not the session: whoever waits
                // for the answer finds its sender gone.
                let _ = catch_unwind(AssertUnwindSafe(task));
            }
        })?;
        Ok(Self { inbox })
    }

    /// Does `work`, which reads `text`, on a large stack.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        text: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unanalysed> {
        if text.len() <= SHORT && sql::has_large_stack() {
            return catch_unwind(AssertUnwindSafe(work)).map_err(|_| Unanalysed);
        }
        self.ask(work).await
    }

    /// Does `work` on the thread.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unanalysed> {
        let (answer, answered) = oneshot::channel();
        let task: Work = Box::new(move || {
            // Nobody waits any more where the client has gone.
            let _ = answer.send(work());
        });
        self.inbox.send(task).map_err(|_| Unanalysed)?;
        answered.await.map_err(|_| Unanalysed)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn a_panic_costs_one_answer_and_not_the_next() {
        let analyst = Analyst::start().unwrap();
        let lost: Result<u32, _> = analyst.ask(|| panic!("a fault in the walk")).await;
        assert_eq!(lost, Err(Unanalysed));
        assert_eq!(analyst.ask(|| 7).await, Ok(7));
    }

    #[tokio::test]
    async fn deep_recursion_has_room() {
        fn depth(n: u64) -> u64 {
            let room = std::hint::black_box([0_u8; 256]);
            if n == 0 { 0 } else { depth(n - 1) + 1 + u64::from(room[0]) }
        }
        let analyst = Analyst::start().unwrap();
        assert_eq!(analyst.ask(|| depth(50_000)).await, Ok(50_000));
    }

    /// Whether a text of this length is read on the thread that asks for it.
    async fn stays(analyst: &Analyst, length: usize) -> bool {
        let here = thread::current().id();
        let read = analyst.read(&"x".repeat(length), || thread::current().id()).await;
        read.unwrap() == here
    }

    #[tokio::test]
    async fn nothing_is_read_on_a_small_stack() {
        let analyst = Analyst::start().unwrap();
        assert!(!stays(&analyst, 1).await);
        assert!(!stays(&analyst, SHORT + 1).await);
    }

    #[test]
    fn what_is_short_is_read_where_it_stands_on_a_large_stack_and_a_panic_costs_it_alone() {
        sql::on_large_stack(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(async {
                let analyst = Analyst::start().unwrap();
                assert!(stays(&analyst, SHORT).await);
                assert!(!stays(&analyst, SHORT + 1).await);
                let lost: Result<u32, _> = analyst.read("", || panic!("a fault")).await;
                assert_eq!(lost, Err(Unanalysed));
                assert_eq!(analyst.read("", || 7).await, Ok(7));
            });
        });
    }
}
