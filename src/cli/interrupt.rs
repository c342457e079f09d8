//! Ctrl-C and SIGTERM: the first one asks a command to end in order, the next one ends what it still waits for.

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::Failure;

/// The interrupts of this process from [`Interrupts::listen`] on; before, they end it at once.
pub struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    /// Takes the signals; needs a running runtime.
    ///
    /// # Errors
    /// If the system does not let this process take them.
    pub fn listen() -> Result<Self, Failure> {
        let taken = |kind| signal(kind).map_err(|error| Failure::usage(format_args!("take signals: {error}")));
        Ok(Self { interrupt: taken(SignalKind::interrupt())?, terminate: taken(SignalKind::terminate())? })
    }

    /// Waits for the next one; none is lost between two calls.
    pub async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// Does the work, unless somebody interrupts first.
    pub async fn unless<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.next() => None,
            done = work => Some(done),
        }
    }
}
