//! Room for recursion: PostgreSQL's parser and the trees that it makes are as
//! deep as the statement is nested.

/// The stack of the threads that [`on_large_stack`] starts, in bytes.
const STACK: usize = 64 << 20;

/// Runs `work` on a thread of its own with a 64 MiB stack and waits for it. All
/// reading of SQL happens on such a thread, the dropping of trees included. A
/// panic of `work` is passed on.
pub fn on_large_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .name("sql".into())
            .stack_size(STACK)
            .spawn_scoped(scope, work)
            .expect("a thread can be started");
        match thread.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}
