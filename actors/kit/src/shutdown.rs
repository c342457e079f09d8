//! Ending in order: phases with deadlines, then everything in reverse.
//!
//! A [`Phase`] asks all leaves at and below its paths to drain or to stop, and waits until they are at rest. At its
//! deadline those left are aborted and named in its report, and the next phase begins. After the last one the root
//! stops what is left in reverse start order, each child within its `stop_within`. So the longest end is the sum of the
//! deadlines and of the stop limits on the way down, whatever the actors do; nothing that is aborted loses a message.
//!
//! A child that fails during a drain phase is restarted and goes on draining. Errors do not stop a shutdown: they are
//! in the [`ShutdownReport`].
//!
//! Source: Akka's [coordinated shutdown](https://doc.akka.io/libraries/akka-core/current/coordinated-shutdown.html),
//! with a list of phases instead of a graph.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::{
    core::Quiesce,
    driver::Wish,
    path::{ActorPath, PathPattern},
    runtime::Runtime,
};

/// What a phase asks of its actors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhaseAction {
    /// Finish what is queued, then end.
    Drain,
    /// End after the message in hand.
    Stop,
}

/// One step of an orderly end.
#[derive(Clone, Debug)]
pub struct Phase {
    /// Its name in the report.
    pub name: String,
    /// Which actors; all leaves at and below the matching paths.
    pub paths: Vec<PathPattern>,
    /// What they are asked.
    pub action: PhaseAction,
    /// Time until those left are aborted.
    pub deadline: Duration,
}

impl Phase {
    /// A phase for the leaves at and below these paths (`*` stands for one segment).
    #[must_use]
    pub fn new(name: &str, paths: &[&str], action: PhaseAction, deadline: Duration) -> Self {
        let paths = paths.iter().map(|text| PathPattern::new(text)).collect();
        Self { name: name.to_owned(), paths, action, deadline }
    }
}

/// How one phase went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PhaseReport {
    /// Its name.
    pub name: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
    /// Who was aborted at the deadline.
    pub missed: Vec<ActorPath>,
}

/// How the end went.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ShutdownReport {
    /// The phases, in order.
    pub phases: Vec<PhaseReport>,
    /// Who missed its own stop limit, at any time since the start of the shutdown.
    pub missed_stop: Vec<ActorPath>,
    /// Time for everything, in milliseconds.
    pub took_ms: u64,
}

impl ShutdownReport {
    /// True if every actor ended in time.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.missed_stop.is_empty() && self.phases.iter().all(|phase| phase.missed.is_empty())
    }
}

fn ms_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl Runtime {
    /// Ends everything: phase after phase, then all that is left in reverse start order.
    pub async fn shutdown(&self, phases: Vec<Phase>) -> ShutdownReport {
        let start = Instant::now();
        self.shared.missed_stops.lock().clear();
        let mut report = ShutdownReport::default();
        for phase in phases {
            report.phases.push(self.run_phase(phase).await);
        }
        if self.ask(Wish::Shutdown).await.is_ok() {
            self.run().await;
        }
        report.missed_stop = self.shared.missed_stops.lock().clone();
        report.took_ms = ms_since(start);
        report
    }

    async fn run_phase(&self, phase: Phase) -> PhaseReport {
        let start = Instant::now();
        let how = match phase.action {
            PhaseAction::Drain => Quiesce::Drain,
            PhaseAction::Stop => Quiesce::Stop,
        };
        let mut missed = Vec::new();
        if self.ask(Wish::Quiesce(phase.paths.clone(), how)).await.is_ok() {
            let at_rest = self.until(|| self.busy(&phase.paths).is_empty());
            if tokio::time::timeout(phase.deadline, at_rest).await.is_err() {
                missed = self.busy(&phase.paths);
                tracing::warn!(phase = phase.name, ?missed, "deadline missed, aborting");
                let _ = self.ask(Wish::Quiesce(phase.paths.clone(), Quiesce::Kill)).await;
                // Aborted ones are gone or abandoned within the abort grace.
                self.until(|| self.busy(&phase.paths).is_empty()).await;
            }
        }
        PhaseReport { name: phase.name, took_ms: ms_since(start), missed }
    }

    /// Leaves under these patterns that are not at rest.
    fn busy(&self, patterns: &[PathPattern]) -> Vec<ActorPath> {
        let index = self.shared.index.read();
        let wanted =
            index.iter().filter(|(path, slot)| !slot.is_supervisor && patterns.iter().any(|p| p.matches(path)));
        let mut busy: Vec<ActorPath> =
            wanted.filter(|(_, slot)| !slot.status.lock().state.is_at_rest()).map(|(path, _)| path.clone()).collect();
        busy.sort();
        busy
    }
}
