//! Room for recursion: PostgreSQL's parser and the trees that it makes are as
//! deep as the statement is nested.

use std::{cell::Cell, io, thread};

/// The stack of the threads that are started here, in bytes. Only what is touched costs
/// memory.
const STACK: usize = 64 << 20;

thread_local! {
    /// Whether this thread was started here.
    static LARGE: Cell<bool> = const { Cell::new(false) };
}

/// Whether this thread has the large stack, so that SQL may be read on it.
pub fn has_large_stack() -> bool {
    LARGE.get()
}

/// Starts a thread with a 64 MiB stack, on which SQL may be read.
///
/// # Errors
///
/// Where the system has no room for another thread.
pub fn start_on_large_stack<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<thread::JoinHandle<T>> {
    builder(name).spawn(marked(work))
}

/// Runs `work` on a thread of its own with a 64 MiB stack and waits for it. All
/// reading of SQL happens on such a thread, the dropping of trees included. A
/// panic of `work` is passed on.
pub fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread =
            builder("sql").spawn_scoped(scope, marked(work)).expect("a thread can be started");
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

fn builder(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.into()).stack_size(STACK)
}

fn marked<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    move || {
        LARGE.set(true);
        work()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_stack_is_known_where_it_is_and_has_room() {
        fn depth(n: u64) -> u64 {
            let room = std::hint::black_box([0_u8; 256]);
            if n == 0 { 0 } else { depth(n - 1) + 1 + u64::from(room[0]) }
        }
        assert!(!has_large_stack());
        assert_eq!(on_large_stack(|| (has_large_stack(), depth(50_000))), (true, 50_000));
        let started = start_on_large_stack("large", || (has_large_stack(), depth(50_000)));
        assert_eq!(started.unwrap().join().unwrap(), (true, 50_000));
        assert!(!has_large_stack());
    }
}
