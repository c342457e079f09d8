//! The WebSocket sessions as parts of the tree.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use futures_util::FutureExt;
use parking_lot::Mutex;
use streamward_core::ports::{Full, Session, SessionHost};
use streamward_kit::{ChildPolicy, ChildSpec, Failure, Scope, SupervisorHandle};
use tokio::sync::oneshot;

/// Runs sessions where they were accepted, each with a child in the tree that answers for it.
///
/// A session holds its connection and cannot leave its thread. Its child waits for its end, reports a panic as its
/// own, and ends it when it is told to stop.
pub struct Sessions {
    supervisor: SupervisorHandle,
    max: usize,
    open: Arc<AtomicUsize>,
    /// Sessions so far: makes their names unique.
    started: AtomicU64,
}

/// Both ends of a session's life, as its child holds them.
struct Life {
    end: oneshot::Receiver<Result<(), String>>,
    cancel: oneshot::Sender<()>,
}

impl Sessions {
    /// At most `max` sessions under a supervisor.
    pub fn new(supervisor: SupervisorHandle, max: usize) -> Self {
        Self { supervisor, max, open: Arc::default(), started: AtomicU64::new(0) }
    }
}

/// One of the sessions that may be open at a time.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(open: &Arc<AtomicUsize>, max: usize) -> Option<Self> {
        let place = Self(open.clone());
        (open.fetch_add(1, Ordering::AcqRel) < max).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl SessionHost for Sessions {
    fn start(&self, name: String, session: Session) -> Result<(), Full> {
        let place = Place::take(&self.open, self.max).ok_or(Full)?;
        let (ended, end) = oneshot::channel();
        let (cancel, cancelled) = oneshot::channel::<()>();
        let life = Arc::new(Mutex::new(Some(Life { end, cancel })));
        let id = format!("{name}-{}", self.started.fetch_add(1, Ordering::Relaxed) + 1);
        let child = ChildSpec::role(id, "session", move |scope| child(scope, life.lock().take()))
            .policy(ChildPolicy::temporary());
        let supervisor = self.supervisor.clone();
        let task = async move {
            // Given back also where the task is dropped with its thread.
            let _place = place;
            if let Err(error) = supervisor.start_child(child).await {
                tracing::warn!(%error, "a WebSocket session was refused");
            } else {
                let result = tokio::select! {
                    result = AssertUnwindSafe(session).catch_unwind() => result.map_err(|panic| panic_text(&*panic)),
                    _ = cancelled => Ok(()),
                };
                let _child_is_gone = ended.send(result);
            }
        };
        #[expect(clippy::disallowed_methods, reason = "the session's child in the tree answers for this task")]
        actix_rt::spawn(task);
        Ok(())
    }
}

async fn child(scope: Scope, life: Option<Life>) -> Result<(), Failure> {
    let Some(Life { end, cancel }) = life else { return Ok(()) };
    let _waiting = scope.waiting_on("client");
    tokio::select! {
        ended = end => match ended {
            Ok(Err(panic)) => Err(Failure::new(format_args!("the session panicked: {panic}"))),
            Ok(Ok(())) | Err(_) => Ok(()),
        },
        failure = scope.struck("session") => Err(failure),
        () = scope.stopping() => {
            let _session_is_gone = cancel.send(());
            Ok(())
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
