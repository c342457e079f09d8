//! A member of a group that polls in a thread of its own and keeps what it read, was assigned and lost.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::message::{Message, OwnedMessage};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::env::Env;

/// What a member has seen so far.
#[derive(Default)]
pub struct Seen {
    pub records: Vec<OwnedMessage>,
    /// Topics and partitions assigned.
    pub assigned: Vec<(String, i32)>,
    /// Partitions of each revocation.
    pub revocations: Vec<Vec<i32>>,
    pub error: Option<String>,
    /// Next offset of each partition, as far as it is not committed.
    next: BTreeMap<(String, i32), i64>,
}

/// Shared with the thread and with the client's callbacks.
#[derive(Clone, Default)]
struct Context(Arc<Mutex<Seen>>);

impl Context {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for Context {}

impl ConsumerContext for Context {
    /// Commits what was read of partitions before they go.
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let Rebalance::Revoke(lost) = rebalance else { return };
        let lost: Vec<_> = lost.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect();
        if lost.is_empty() {
            return;
        }
        let mut list = TopicPartitionList::new();
        let mut seen = self.seen();
        seen.revocations.push(lost.iter().map(|(_, partition)| *partition).collect());
        for place in &lost {
            if let Some(next) = seen.next.remove(place) {
                list.add_partition_offset(&place.0, place.1, Offset::Offset(next)).unwrap();
            }
        }
        drop(seen);
        if list.count() > 0 {
            consumer.commit(&list, CommitMode::Sync).unwrap();
        }
    }
}

pub struct Worker {
    context: Context,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    /// Joins a group that reads a topic, or topics by pattern when the name begins with `^`.
    pub fn start(env: &Env, group: &str, topic: &str, settings: &[(&str, &str)]) -> Self {
        let own = [
            ("group.id", group),
            ("enable.auto.commit", "false"),
            ("auto.offset.reset", "earliest"),
            ("session.timeout.ms", "6000"),
            ("heartbeat.interval.ms", "300"),
            ("topic.metadata.refresh.interval.ms", "500"),
            ("partition.assignment.strategy", "range"),
        ];
        let context = Context::default();
        let consumer: BaseConsumer<Context> =
            env.client(&[&own, settings].concat()).create_with_context(context.clone()).unwrap();
        consumer.subscribe(&[topic]).unwrap();
        let stopping = Arc::new(AtomicBool::new(false));
        let (inside, stop) = (context.clone(), stopping.clone());
        #[expect(clippy::disallowed_methods, reason = "joined when it is dropped")]
        let thread = Builder::new().spawn(move || poll(&consumer, &inside, &stop)).unwrap();
        Self { context, stopping, thread: Some(thread) }
    }

    pub fn seen(&self) -> MutexGuard<'_, Seen> {
        self.context.seen()
    }

    /// Numbers of the partitions assigned.
    pub fn numbers(&self) -> Vec<i32> {
        let seen = self.seen();
        assert_eq!(seen.error, None, "the member goes on");
        let mut numbers: Vec<_> = seen.assigned.iter().map(|(_, partition)| *partition).collect();
        numbers.sort_unstable();
        numbers
    }

    pub fn values(&self) -> Vec<String> {
        self.seen().records.iter().map(crate::env::value).collect()
    }

    /// Ends the member, which leaves the group unless it is static; what it saw.
    pub fn stop(mut self) -> Vec<OwnedMessage> {
        self.end();
        std::mem::take(&mut self.seen().records)
    }

    fn end(&mut self) {
        self.stopping.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

fn poll(consumer: &BaseConsumer<Context>, context: &Context, stopping: &AtomicBool) {
    while !stopping.load(Ordering::Relaxed) {
        let polled = consumer.poll(Duration::from_millis(100)).map(|message| message.map(|m| m.detach()));
        let assigned = consumer.assignment().unwrap();
        let assigned = assigned.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect();
        let mut seen = context.seen();
        seen.assigned = assigned;
        match polled {
            Some(Ok(message)) => {
                seen.next.insert((message.topic().to_owned(), message.partition()), message.offset() + 1);
                seen.records.push(message);
            }
            Some(Err(error)) => seen.error = Some(error.to_string()),
            None => {}
        }
    }
}
