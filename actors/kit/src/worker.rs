//! Hosts of one incarnation: an actix actor for a role, an OS thread for a thread.
//!
//! `actix::Supervisor` restarts on `ctx.stop()` only, and a panicking actor vanishes without a word. So the actor's
//! context runs as a task whose join handle is watched: value, error, panic and abort all become an
//! [`ExitReport`]. The role's future runs inside the context; the actor's bounded mailbox answers control messages
//! while the role waits.

use std::{
    cell::RefCell,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    task::{Context as TaskContext, Poll},
};

use actix::{Actor, ActorContext as _, AsyncContext as _, Context, Handler, Message, MessageResult, WrapFuture as _};
use futures_util::future::LocalBoxFuture;
use tokio::{sync::mpsc::UnboundedSender, task::JoinError};

use crate::{
    Scope,
    core::ChildKey,
    exit::{ExitReason, ExitReport, Failure},
    panics::{PanicNote, Watched, payload_text},
    slot::{Incarnation, RUN},
    spec::{RoleFactory, RoleResult, ThreadFactory},
    task,
    tree::TreeNode,
};

/// Control messages that may wait at one actor.
const MAILBOX: usize = 16;

/// What an incarnation tells the driver. Each sends at most two, so the channel needs no other bound.
#[derive(Debug)]
pub(crate) enum Note {
    Started { child: ChildKey, generation: u64 },
    Exited { child: ChildKey, report: Box<ExitReport>, panic: Option<Box<PanicNote>> },
}

/// Tells the driver about one incarnation; if dropped without a report, that it was swept away.
pub(crate) struct Reporter {
    pub(crate) scope: Scope,
    pub(crate) child: ChildKey,
    pub(crate) notes: UnboundedSender<Note>,
    pub(crate) reported: bool,
}

impl Reporter {
    fn started(&self) {
        self.scope.incarnation.created.store(true, Ordering::Release);
        let _ = self.notes.send(Note::Started { child: self.child, generation: self.scope.generation() });
    }

    fn exited(&mut self, outcome: Outcome) {
        self.reported = true;
        let incarnation = &self.scope.incarnation;
        *incarnation.control.lock() = None;
        let (report, panic) = classify(incarnation, outcome);
        let _ = self.notes.send(Note::Exited { child: self.child, report: Box::new(report), panic });
    }

    /// Reports that the host itself could not be had.
    pub(crate) fn not_hosted(mut self, why: &str) {
        self.exited(Outcome::NotHosted(why.to_owned()));
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        if !self.reported {
            self.exited(Outcome::Swept);
        }
    }
}

enum Outcome {
    Returned(RoleResult),
    Panicked(String),
    Swept,
    NotHosted(String),
}

fn classify(incarnation: &Incarnation, outcome: Outcome) -> (ExitReport, Option<Box<PanicNote>>) {
    let generation = incarnation.generation;
    let created = incarnation.created.load(Ordering::Acquire);
    let awaited = incarnation.awaited.load(Ordering::Acquire);
    let injected = incarnation.injected.load(Ordering::Acquire);
    let swept = incarnation.desk.lock().swept.take();
    let report = |reason, message: String| ExitReport {
        culprit: swept.clone(),
        injected,
        ..ExitReport::new(generation, reason, message)
    };
    match outcome {
        Outcome::Returned(Ok(())) if incarnation.stop.get() == RUN => (report(ExitReason::Normal, String::new()), None),
        Outcome::Returned(Ok(())) => (report(ExitReason::Shutdown, String::new()), None),
        Outcome::Returned(Err(Failure { message, culprit })) => {
            let reason = if awaited { ExitReason::Error } else { ExitReason::StartFailed };
            let plain = report(reason, message);
            (ExitReport { culprit: culprit.or(plain.culprit.clone()), ..plain }, None)
        }
        Outcome::Panicked(text) => {
            let note = incarnation.panic_note.lock().take();
            let note = note.unwrap_or_else(|| PanicNote::unseen(text));
            let reason = if created { ExitReason::Panic } else { ExitReason::StartFailed };
            let (location, injected) = (note.location.clone(), note.injected);
            let report = ExitReport { location, injected, ..report(reason, note.message.clone()) };
            (report, Some(Box::new(note)))
        }
        Outcome::Swept => (report(ExitReason::Killed, "aborted".to_owned()), None),
        Outcome::NotHosted(why) => (report(ExitReason::StartFailed, why), None),
    }
}

/// Control message: the actor describes itself. Answered while its role waits.
#[derive(Debug, Message)]
#[rtype(result = "TreeNode")]
pub(crate) struct Describe;

/// The actor that hosts a role.
pub(crate) struct Worker {
    reporter: Rc<RefCell<Reporter>>,
    factory: RoleFactory,
    outcome: Rc<RefCell<Option<RoleResult>>>,
}

impl Actor for Worker {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        let scope = self.reporter.borrow().scope.clone();
        let incarnation = Arc::clone(&scope.incarnation);
        *incarnation.control.lock() = Some(ctx.address());
        let role = (self.factory)(scope);
        self.reporter.borrow().started();
        let role = FirstWait { role, incarnation };
        let outcome = Rc::clone(&self.outcome);
        ctx.spawn(actix::fut::ActorFutureExt::map(role.into_actor(self), move |result, _, ctx| {
            *outcome.borrow_mut() = Some(result);
            ctx.stop();
        }));
    }
}

impl Handler<Describe> for Worker {
    type Result = MessageResult<Describe>;

    fn handle(&mut self, _: Describe, _: &mut Self::Context) -> Self::Result {
        MessageResult(TreeNode::of(&self.reporter.borrow().scope.slot))
    }
}

/// Notes that the role has waited for something once, so that it counts as started.
struct FirstWait {
    role: LocalBoxFuture<'static, RoleResult>,
    incarnation: Arc<Incarnation>,
}

impl Future for FirstWait {
    type Output = RoleResult;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<RoleResult> {
        let polled = self.role.as_mut().poll(cx);
        if polled.is_pending() {
            self.incarnation.awaited.store(true, Ordering::Release);
        }
        polled
    }
}

/// Watches every poll of an actor's context for panics.
struct Guarded<F> {
    context: Pin<Box<F>>,
    incarnation: Arc<Incarnation>,
}

impl<F: Future> Future for Guarded<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<F::Output> {
        let incarnation = Arc::clone(&self.incarnation);
        let _watched = Watched::new(move |note| *incarnation.panic_note.lock() = Some(note));
        self.context.as_mut().poll(cx)
    }
}

/// Runs a role on the current thread until its incarnation is gone, then reports.
pub(crate) async fn host_role(reporter: Reporter, factory: RoleFactory) {
    let incarnation = Arc::clone(&reporter.scope.incarnation);
    let reporter = Rc::new(RefCell::new(reporter));
    let outcome = Rc::new(RefCell::new(None));
    let worker = Worker { reporter: Rc::clone(&reporter), factory, outcome: Rc::clone(&outcome) };
    let context = Box::pin(Context::new().into_future(worker));
    let handle = task::spawn_here(Guarded { context, incarnation: Arc::clone(&incarnation) });
    incarnation.set_abort(handle.abort_handle());
    let joined = handle.await;
    let outcome = outcome.borrow_mut().take();
    reporter.borrow_mut().exited(read_join(joined, outcome));
}

fn read_join(joined: Result<(), JoinError>, outcome: Option<RoleResult>) -> Outcome {
    match joined {
        Ok(()) => outcome.map_or(Outcome::Swept, Outcome::Returned),
        Err(error) if error.is_panic() => Outcome::Panicked(payload_text(&*error.into_panic())),
        Err(_) => Outcome::Swept,
    }
}

/// Runs a thread role on a thread of its own.
pub(crate) fn host_thread(reporter: Reporter, factory: ThreadFactory) {
    let name = reporter.scope.path().as_str().to_owned();
    let run = move || {
        let mut reporter = reporter;
        reporter.started();
        reporter.scope.incarnation.awaited.store(true, Ordering::Release);
        let result = {
            let scope = reporter.scope.clone();
            catch_unwind(AssertUnwindSafe(move || {
                let incarnation = Arc::clone(&scope.incarnation);
                let _watched = Watched::new(move |note| *incarnation.panic_note.lock() = Some(note));
                factory(scope)
            }))
        };
        reporter.exited(match result {
            Ok(result) => Outcome::Returned(result),
            Err(payload) => Outcome::Panicked(payload_text(&*payload)),
        });
    };
    // If the system refuses the thread, the reporter is dropped with the closure and says so.
    if let Err(error) = task::start_thread(name, run) {
        tracing::error!(%error, "no thread for a supervised role");
    }
}
