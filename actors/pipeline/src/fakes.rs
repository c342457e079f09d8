//! Stand-ins for the database, the outbox, a target and a client that the tests of this crate share.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::{Condvar, Mutex};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    logs::LogIdentity,
    relay::{EntryId, Fact, FactKind, Outbox, Target, TargetError},
    source::{LogClient, Polled, RecordView, SourceError},
    store::{Assignment, BoxFuture, Outcome, PartitionKey, Pending, SinkStore, Start, StoreError},
};

/// Longest wait for any state; only a broken test reaches it.
pub(crate) const LIMIT: Duration = Duration::from_secs(20);

/// Runs a test on an actix system.
pub(crate) fn on_a_system<T>(test: impl Future<Output = T>) -> T {
    let test = async { tokio::time::timeout(LIMIT, test).await.expect("the state that the test waits for comes") };
    actix_rt::System::new().block_on(test)
}

/// Runs a test on an actix system whose clock stands still while something runs, and goes on to the next timer when nothing
/// does.
pub(crate) fn in_virtual_time<T>(test: impl Future<Output = T>) -> T {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    actix_rt::System::with_tokio_rt(runtime).block_on(test)
}

/// The lines that the work on this thread logs.
pub(crate) fn logged(work: impl FnOnce()) -> Vec<String> {
    let lines = Lines::default();
    tracing::subscriber::with_default(lines.clone(), work);
    let lines = lines.0.lock();
    lines.clone()
}

/// Keeps each event as a line of its fields.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

impl tracing::Subscriber for Lines {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut line = String::new();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            line.push_str(&format!("{field}={value:?} "));
        });
        self.0.lock().push(line);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// Holds threads until the test lets them go.
#[derive(Default)]
pub(crate) struct Gate {
    /// Whether it is open, and how many came when it was not.
    state: Mutex<(bool, usize)>,
    changed: Condvar,
    arrived: Notify,
}

impl Gate {
    /// Blocks this thread until the gate is open.
    pub(crate) fn pass(&self) {
        let mut state = self.state.lock();
        if !state.0 {
            state.1 += 1;
            self.arrived.notify_one();
        }
        self.changed.wait_while(&mut state, |(is_open, _)| !*is_open);
    }

    /// Returns once a thread is held.
    pub(crate) async fn held(&self) {
        while self.state.lock().1 == 0 {
            self.arrived.notified().await;
        }
    }

    pub(crate) fn open(&self) {
        self.state.lock().0 = true;
        self.changed.notify_all();
    }
}

/// What storage answers to one attempt to commit.
pub(crate) type Answer = Result<Vec<Outcome>, StoreError>;

/// Storage with prepared answers; the last one is given again and again.
#[derive(Default)]
pub(crate) struct Storage {
    /// What it knows of each partition that is assigned.
    pub(crate) assignment: Option<Assignment>,
    pub(crate) answers: Vec<fn() -> Answer>,
    /// Partitions of the outputs of each attempt to commit.
    pub(crate) attempts: Mutex<Vec<Vec<i32>>>,
    pub(crate) starts: Mutex<Vec<Start>>,
    /// Logs whose rules begin anew.
    pub(crate) begun: Mutex<Vec<i64>>,
    /// The question to which it only says that it is busy.
    pub(crate) is_busy_at: &'static str,
    /// Which partition each question, that of commits apart, was about.
    pub(crate) asked: Mutex<Vec<(&'static str, PartitionKey)>>,
    /// Done once, when a partition is assigned.
    pub(crate) meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Storage {
    fn asked(&self, question: &'static str, key: &PartitionKey) -> Result<(), StoreError> {
        self.asked.lock().push((question, key.clone()));
        if question == self.is_busy_at { Err(StoreError::Unavailable("busy".to_owned())) } else { Ok(()) }
    }
}

impl SinkStore for Storage {
    fn assign<'a>(
        &'a self,
        key: &'a PartitionKey,
        _: &'a LogIdentity,
    ) -> BoxFuture<'a, Result<Assignment, StoreError>> {
        let assignment = self.assignment.clone().expect("nothing is assigned here");
        if let Some(meanwhile) = self.meanwhile.lock().take() {
            meanwhile();
        }
        Box::pin(async move { self.asked("assign", key).map(|()| assignment) })
    }

    fn start_at<'a>(&'a self, key: &'a PartitionKey, start: Start) -> BoxFuture<'a, Result<(), StoreError>> {
        self.starts.lock().push(start);
        Box::pin(async move { self.asked("start_at", key) })
    }

    fn begin_rules<'a>(&'a self, key: &'a PartitionKey, log: i64) -> BoxFuture<'a, Result<(), StoreError>> {
        self.begun.lock().push(log);
        Box::pin(async move { self.asked("begin_rules", key) })
    }

    fn commit<'a>(&'a self, pending: &'a [Arc<Pending>]) -> BoxFuture<'a, Result<Vec<Outcome>, StoreError>> {
        let mut attempts = self.attempts.lock();
        let answer = self.answers[attempts.len().min(self.answers.len() - 1)];
        attempts.push(pending.iter().map(|pending| pending.key.partition).collect());
        Box::pin(async move { answer() })
    }
}

/// An outbox in memory.
pub(crate) struct Entries {
    /// What has not left it, oldest first.
    pub(crate) left: watch::Sender<Vec<Fact>>,
    /// Ids of each removal.
    pub(crate) removed: Mutex<Vec<Vec<i64>>>,
    pub(crate) undeliverable: Mutex<Vec<(i64, String)>>,
    /// How many removals and notes it refuses first.
    pub(crate) refusals: Mutex<usize>,
    /// Tells of new entries.
    pub(crate) grown: Notify,
}

impl Entries {
    /// With facts of these ids.
    pub(crate) fn of(ids: impl IntoIterator<Item = i64>) -> Self {
        let entry = |fact| EntryId { sink: "orders".to_owned(), fact };
        let fact = |id| Fact { entry: entry(id), in_order: None, key: None, value: None, headers: Vec::new() };
        let left = watch::Sender::new(ids.into_iter().map(fact).collect());
        let (removed, undeliverable) = Default::default();
        Self { left, removed, undeliverable, refusals: Mutex::default(), grown: Notify::new() }
    }

    fn refuses(&self) -> bool {
        let mut refusals = self.refusals.lock();
        let refuses = *refusals > 0;
        *refusals = refusals.saturating_sub(1);
        refuses
    }

    /// Returns once it is empty.
    pub(crate) async fn emptied(&self) {
        self.left.subscribe().wait_for(Vec::is_empty).await.expect("the outbox lives");
    }
}

impl Outbox for Entries {
    fn changed(&self, _: FactKind) -> BoxFuture<'_, ()> {
        Box::pin(self.grown.notified())
    }

    fn facts(&self, _: FactKind) -> BoxFuture<'_, Result<Vec<Fact>, StoreError>> {
        Box::pin(async { Ok(self.left.borrow().clone()) })
    }

    fn sent<'a>(&'a self, _: FactKind, entries: &'a [EntryId]) -> BoxFuture<'a, Result<(), StoreError>> {
        if self.refuses() {
            return Box::pin(async { Err(StoreError::Unavailable("busy".to_owned())) });
        }
        self.removed.lock().push(entries.iter().map(|entry| entry.fact).collect());
        self.left.send_modify(|left| left.retain(|fact| !entries.contains(&fact.entry)));
        Box::pin(async { Ok(()) })
    }

    fn undeliverable<'a>(&'a self, _: FactKind, id: i64, why: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        if self.refuses() {
            return Box::pin(async { Err(StoreError::Unavailable("busy".to_owned())) });
        }
        self.undeliverable.lock().push((id, why.to_owned()));
        Box::pin(async { Ok(()) })
    }
}

/// A target with prepared answers to the first pages; it takes all that follow.
#[derive(Default)]
pub(crate) struct Taker {
    pub(crate) answers: Mutex<VecDeque<Vec<Result<(), TargetError>>>>,
    /// Ids of each page.
    pub(crate) pages: Mutex<Vec<Vec<i64>>>,
    /// When each page came.
    pub(crate) moments: watch::Sender<Vec<Instant>>,
}

impl Target for Taker {
    fn send<'a>(&'a self, facts: &'a [Fact]) -> BoxFuture<'a, Vec<Result<(), TargetError>>> {
        self.pages.lock().push(facts.iter().map(|fact| fact.entry.fact).collect());
        self.moments.send_modify(|moments| moments.push(Instant::now()));
        let prepared = self.answers.lock().pop_front();
        Box::pin(async move { prepared.unwrap_or_else(|| facts.iter().map(|_| Ok(())).collect()) })
    }
}

/// A client that gives records of partition 3 with these offsets, then nothing.
pub(crate) struct Offsets(pub(crate) VecDeque<i64>);

impl LogClient for Offsets {
    fn poll(&mut self, _: Duration, visit: &mut dyn FnMut(Polled<'_>)) -> Result<(), SourceError> {
        visit(match self.0.pop_front() {
            None => Polled::Nothing,
            Some(offset) => {
                let (log_timestamp_ms, is_broker_time, key, value) = (0, true, None, None);
                let record = RecordView { offset, log_timestamp_ms, is_broker_time, key, value, headers: &|_| {} };
                Polled::Record { partition: 3, record }
            }
        });
        Ok(())
    }

    fn pause(&mut self, _: &[i32]) {}

    fn resume(&mut self, _: &[i32]) {}

    fn commit(&mut self, _: &[(i32, i64)]) {}
}
