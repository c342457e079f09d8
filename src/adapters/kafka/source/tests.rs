//! Two clients of one pipeline, as when the first is given up as stuck and wakes up later.

use std::collections::BTreeMap;
use std::time::Instant;

use streamward_core::watermark::NO_WATERMARK;
use streamward_pipeline::{
    assignment::OnGap,
    logs::{LogIdentity, Logs, Told},
    slot::Slots,
    store::{Assignment, BoxFuture, Outcome, PartitionKey, Pending, SinkStore, Start, StoreError},
};

use super::*;
use crate::{
    adapters::kafka::{
        admin::{LogInspector, delete_topics},
        served::Served,
    },
    config::Sources,
    plan,
};

const TOPIC: &str = "sensor-readings";
const PARTITIONS: i32 = 2;
const PATIENCE: Duration = Duration::from_secs(30);

/// Storage that knows epochs alone.
#[derive(Default)]
struct Epochs(Mutex<BTreeMap<i32, i64>>);

impl SinkStore for Epochs {
    fn assign<'a>(
        &'a self,
        key: &'a PartitionKey,
        _: &'a LogIdentity,
    ) -> BoxFuture<'a, Result<Assignment, StoreError>> {
        let mut epochs = self.0.lock();
        let epoch = epochs.entry(key.partition).or_default();
        *epoch += 1;
        let assignment = Assignment {
            epoch: *epoch,
            log: 1,
            position: Some(0),
            first_offset: 0,
            checkpoint: None,
            newest_event_ms: NO_WATERMARK,
            decisions: Default::default(),
        };
        Box::pin(async { Ok(assignment) })
    }

    fn start_at<'a>(&'a self, _: &'a PartitionKey, _: Start) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn begin_rules<'a>(&'a self, _: &'a PartitionKey, _: i64) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn commit<'a>(&'a self, pending: &'a [Arc<Pending>]) -> BoxFuture<'a, Result<Vec<Outcome>, StoreError>> {
        Box::pin(async { Ok(vec![Outcome::Committed; pending.len()]) })
    }
}

/// Asks the broker each time.
struct Asked(LogInspector);

impl Asked {
    fn of(served: &Served) -> Self {
        Self(LogInspector::connect(&served.settings).unwrap())
    }
}

impl Logs for Asked {
    fn ask<'a>(&'a self, topic: &'a Arc<str>) -> BoxFuture<'a, Result<Told, String>> {
        let asked_at = Instant::now();
        Box::pin(async move { Ok(Told { log: self.last_told(topic), asked_at }) })
    }

    fn last_told(&self, topic: &Arc<str>) -> Option<LogIdentity> {
        self.0.logs(&[topic], PATIENCE).unwrap().remove(0)
    }
}

struct Pipeline {
    settings: SourceSettings,
    store: Arc<Epochs>,
    slots: Arc<Slots>,
    _served: Served,
    _runtime: tokio::runtime::Runtime,
}

impl Pipeline {
    fn new() -> Self {
        let served = Served::new();
        served.broker.ensure_topic(TOPIC, PARTITIONS, &[]).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let plan = plan::load(&Sources::default()).unwrap().1;
        let setup = plan.pipelines.iter().find(|pipeline| &*pipeline.name == "sensors").unwrap();
        let slots = Arc::new(Slots::default());
        let store = Arc::new(Epochs::default());
        let assigner = Assigner {
            sink: setup.name.clone(),
            topic: TOPIC.into(),
            plan: setup.plan.clone(),
            slots: slots.clone(),
            store: store.clone(),
            logs: Arc::new(Asked::of(&served)),
            on_gap: OnGap::Fail,
            runtime: runtime.handle().clone(),
        };
        let settings = SourceSettings {
            kafka: served.settings.clone(),
            member: Arc::new(Member {
                pipeline: "sensors".into(),
                group: "sensors".to_owned(),
                node_id: "one".to_owned(),
                known: None,
            }),
            assigner: Arc::new(assigner),
        };
        Self { settings, store, slots, _served: served, _runtime: runtime }
    }

    /// A client that has all partitions, at that epoch.
    fn client(&self, epoch: i64) -> KafkaSource {
        let mut client = KafkaSource::create(&self.settings).unwrap();
        client.subscribe().unwrap();
        let until = Instant::now() + PATIENCE;
        while self.epochs() != vec![epoch; PARTITIONS as usize] {
            assert!(Instant::now() < until, "{:?}", self.epochs());
            client.poll(Duration::from_millis(20), &mut |_| {}).unwrap();
        }
        client
    }

    /// Epochs of the partitions that count.
    fn epochs(&self) -> Vec<i64> {
        self.slots.all().iter().filter(|slot| !slot.is_revoked()).map(|slot| slot.epoch).collect()
    }
}

#[test]
fn a_client_that_closes_late_takes_nothing_from_its_successor() {
    let pipeline = Pipeline::new();
    let late = pipeline.client(1);
    let _successor = pipeline.client(2);
    drop(late);
    assert_eq!(pipeline.epochs(), [2, 2]);
}

#[test]
fn a_client_that_is_told_of_partitions_late_takes_nothing_from_its_successor() {
    let pipeline = Pipeline::new();
    let late = pipeline.client(1);
    let successor = pipeline.client(2);
    let context = late.consumer.context();
    let bounds = LogBounds { low: 0, high: 0 };
    let refused = context.assigner.assigned(context.reader, 0, (&LogIdentity::default(), bounds));
    assert!(matches!(refused, Err(SourceError::Client(_))), "{refused:?}");
    assert_eq!(pipeline.store.0.lock()[&0], 2, "nor does it take the partition over in storage");
    assert_eq!(pipeline.epochs(), [2, 2]);
    drop(successor);
    assert_eq!(pipeline.epochs(), Vec::<i64>::new());
}

/// Alpakka Kafka: what is committed inside a rebalance callback is not carried out. Here nothing depends on it.
#[test]
fn what_the_group_has_committed_counts_for_nothing() {
    let pipeline = Pipeline::new();
    let first = pipeline.client(1);
    let mut wrong = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        wrong.add_partition_offset(TOPIC, partition, Offset::Offset(7)).unwrap();
    }
    first.consumer.commit(&wrong, CommitMode::Sync).unwrap();
    drop(first);
    let _next = pipeline.client(2);
    let begins: Vec<_> = pipeline.slots.all().iter().map(|slot| (slot.next_fetch(), slot.committed())).collect();
    assert_eq!(begins, [(0, 0), (0, 0)], "where storage says");
}

#[test]
fn a_topic_made_anew_is_another_log_and_one_that_is_missing_is_none() {
    let served = Served::new();
    served.broker.ensure_topic(TOPIC, PARTITIONS, &[]).unwrap();
    let (asked, topic) = (Asked::of(&served), Arc::from(TOPIC));
    let first = asked.last_told(&topic).unwrap();
    assert_eq!(Some(&first.topic_id), served.broker.topic_id(TOPIC).as_ref());
    assert_eq!(first.cluster_id, served.broker.cluster_id());
    let admin = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    admin.block_on(delete_topics(&served.settings, &[TOPIC])).unwrap();
    assert_eq!(asked.last_told(&topic), None);
    served.broker.ensure_topic(TOPIC, 1, &[]).unwrap();
    let second = asked.last_told(&topic).unwrap();
    assert_ne!(first.topic_id, second.topic_id);
}

#[test]
fn the_ids_of_several_topics_come_in_the_order_asked_for() {
    let served = Served::new();
    for topic in ["b", "a", "c"] {
        served.broker.ensure_topic(topic, 1, &[]).unwrap();
    }
    let logs = LogInspector::connect(&served.settings).unwrap().logs(&["c", "no-such", "b", "a"], PATIENCE).unwrap();
    let ids: Vec<_> = logs.into_iter().map(|log| log.map(|log| log.topic_id)).collect();
    let id = |topic| served.broker.topic_id(topic);
    assert_eq!(ids, [id("c"), None, id("b"), id("a")]);
}
