//! The thread on which statements are read: PostgreSQL's parser and the walk over
//! its tree recurse as deep as the statement does, so it has a stack that no
//! accepted statement can exhaust, and the threads that move bytes don't need one.

use std::{sync::mpsc, thread};

use tokio::sync::oneshot;

/// The stack of the thread, in bytes. Only what is touched costs memory.
const STACK: usize = 64 * 1024 * 1024;

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
        thread::Builder::new().name("pgate-analyst".into()).stack_size(STACK).spawn(move || {
            for task in work {
                // A panic must cost the one statement, not the session: whoever waits
                // for the answer finds its sender gone.
                let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(task));
            }
        })?;
        Ok(Self { inbox })
    }

    /// Does `work` on the large stack.
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
}
