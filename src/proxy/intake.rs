//! What comes from one peer, and how eagerly it is taken.
//!
//! PostgreSQL sends large results in pieces of 8 KiB, and taking each as it comes costs
//! more than the copying: a wake-up, a read and a write for every piece, here and at the
//! client. So amid a large stream the socket is left alone for a moment once it has been
//! emptied, and what has gathered is taken at once. Whatever is small is taken at once
//! always.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tokio::time::{Sleep, sleep};

/// A stream is large from so many bytes on.
const LARGE: usize = 512 * 1024;
/// How long the socket is left alone. The timers' grain is as coarse.
const REST: Duration = Duration::from_millis(1);

/// The intake from one peer.
#[derive(Debug, Default)]
pub(super) struct Intake {
    /// Bytes of the stream that is on.
    taken: usize,
    rest: Option<Pin<Box<Sleep>>>,
}

impl Intake {
    /// Whether the socket is to be left alone now; the task is woken when it isn't any more.
    pub(super) fn rests(&mut self, cx: &mut Context<'_>) -> bool {
        match &mut self.rest {
            Some(rest) => match rest.as_mut().poll(cx) {
                Poll::Pending => true,
                Poll::Ready(()) => {
                    self.rest = None;
                    false
                }
            },
            None => false,
        }
    }

    /// So many bytes have been taken of the `asked` that there was room for; `amid` a
    /// stream or not.
    pub(super) fn took(&mut self, bytes: usize, asked: usize, amid: bool) {
        self.taken = if amid { self.taken.saturating_add(bytes) } else { 0 };
        if self.taken >= LARGE && bytes < asked {
            self.rest = Some(Box::pin(sleep(REST)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Poll};

    use super::*;

    #[tokio::test]
    async fn only_amid_a_large_stream_that_has_run_dry_is_there_a_rest() {
        let mut intake = Intake::default();
        let rests = async |intake: &mut Intake| poll_fn(|cx| Poll::Ready(intake.rests(cx))).await;
        intake.took(LARGE - 1, LARGE, true);
        assert!(!rests(&mut intake).await, "not large yet");
        intake.took(8192, 8192, true);
        assert!(!rests(&mut intake).await, "there may be more");
        intake.took(100, 8192, true);
        assert!(rests(&mut intake).await);
        poll_fn(|cx| if intake.rests(cx) { Poll::Pending } else { Poll::Ready(()) }).await;
        intake.took(100, 8192, false);
        assert!(!rests(&mut intake).await, "its end is not waited for");
    }
}
