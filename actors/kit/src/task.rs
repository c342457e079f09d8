//! The one place where the kit spawns tasks and threads; everything else goes through supervision.

use std::{future::Future, io, thread};

use tokio::task::JoinHandle;

/// Spawns on the current thread's task set.
#[expect(clippy::disallowed_methods, reason = "this is the supervised spawn that the lint points to")]
pub(crate) fn spawn_here<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + 'static,
    F::Output: 'static,
{
    tokio::task::spawn_local(future)
}

/// Starts a named OS thread; its end is told by what it runs, never by joining.
#[expect(clippy::disallowed_methods, reason = "this is the supervised thread that the lint points to")]
pub(crate) fn start_thread(name: String, run: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new().name(name).spawn(run).map(drop)
}
