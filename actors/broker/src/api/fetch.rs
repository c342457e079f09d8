//! Fetch: whole batches from several partitions, waiting for new ones where there are too few.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse, ProducerId, TopicName};
use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use super::Call;
use crate::error::{Code, KResult};
use crate::log::producers::AbortedTxn;
use crate::log::{Oversized, PartitionLog, ReadBatches, ReadRange, Records};
use crate::topic::{Partition, Waiter};

/// Bytes of records in one response, whatever the client allows.
const MAX_RESPONSE_BYTES: usize = 64 << 20;
/// What the records of one response may open to, beside one batch: a client library opens a response at once.
const MAX_RESPONSE_OPENED_BYTES: u64 = 16 << 20;
/// How long a request may wait, whatever the client allows.
const MAX_WAIT: Duration = Duration::from_secs(60);

/// Time between two answers with few bytes to the embedder's own reader that could wait much longer.
const FEW_EVERY: Duration = Duration::from_millis(20);
/// Time from the first record that such a reader has waited for to its answer: librdkafka sends the records of each partition
/// in a request of their own, one right behind the other.
const SETTLED_AFTER: Duration = Duration::from_millis(3);
/// Bytes that are not few.
const MANY_BYTES: u64 = 64 << 10;

/// When a connection is given few bytes again: each answer costs its reader and the broker about the same, whatever it
/// holds. Records that come now and then do not wait.
#[derive(Debug, Default)]
pub(crate) struct Pace(Mutex<Option<Instant>>);

impl Pace {
    fn note(&self, bytes: usize) {
        let few = bytes > 0 && (bytes as u64) < MANY_BYTES;
        *self.0.lock() = few.then(|| Instant::now() + FEW_EVERY);
    }

    /// Waits for more, unless there is much, or nothing was given for a while.
    async fn keep(&self, query: &Query, deadline: Instant) {
        let due = *self.0.lock();
        if let Some(due) = due.map(|due| due.min(deadline))
            && query.available().is_some_and(|bytes| bytes < MANY_BYTES)
        {
            sleep_until(due).await;
        }
    }
}

/// Which records a reader sees of transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Isolation {
    ReadUncommitted,
    ReadCommitted,
}

impl Isolation {
    fn of(wire: i8) -> Self {
        if wire == 1 { Self::ReadCommitted } else { Self::ReadUncommitted }
    }
}

/// Reads what the request asks for, as soon as there is enough of it or its time is up.
pub(super) async fn fetch(call: &Call<'_>, request: FetchRequest) -> Fetched {
    if request.session_id != 0 {
        // Sessions (KIP-227) are never opened: each request names all its partitions.
        let code = Code::FetchSessionIdNotFound.code();
        let response = FetchResponse::default().with_error_code(code);
        return Fetched { response, records: Vec::new() };
    }
    let wait = Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0));
    let deadline = Instant::now() + wait.min(MAX_WAIT);
    let query = Query::new(call, &request);
    let is_paced = call.client.is_own && wait > FEW_EVERY * 10;
    if is_paced {
        call.client.pace.keep(&query, deadline).await;
    }
    let mut waiter = Waiter::default();
    let mut is_registered = false;
    loop {
        let look = if Instant::now() < deadline { Look::Early } else { Look::Last };
        if let Some(fetched) = query.attempt(look) {
            if is_paced {
                call.client.pace.note(fetched.records_len());
            }
            return fetched;
        }
        if is_registered {
            // Both outcomes lead to another look.
            let is_woken = tokio::time::timeout_at(deadline, waiter.woken()).await.is_ok();
            if is_woken && is_paced {
                sleep_until(deadline.min(Instant::now() + SETTLED_AFTER)).await;
            }
        } else {
            query.partitions().for_each(|p| waiter.register(p));
            is_registered = true;
        }
    }
}

/// A response whose partitions have no records yet, and the records of each partition in turn.
#[derive(Debug, Default)]
pub(super) struct Fetched {
    pub response: FetchResponse,
    pub records: Vec<Records>,
}

impl Fetched {
    /// Bytes of all records.
    pub fn records_len(&self) -> usize {
        self.records.iter().map(Records::len).sum()
    }
}

struct Target {
    partition: KResult<Arc<Partition>>,
    wanted: FetchPartition,
}

/// What a response holds so far.
#[derive(Debug, Default)]
struct Taken {
    bytes: usize,
    opened_bytes: u64,
}

struct Query {
    topics: Vec<(TopicName, Vec<Target>)>,
    isolation: Isolation,
    min_bytes: u64,
    max_bytes: usize,
}

/// Whether a reader that finds too little may look again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Early,
    Last,
}

/// What one partition has for a reader at one moment.
struct View {
    high_watermark: i64,
    stable: i64,
    start: i64,
    /// Offset that the reader must not go beyond.
    upto: i64,
}

impl View {
    fn of(log: &PartitionLog, isolation: Isolation) -> Self {
        let (high_watermark, stable) = (log.high_watermark(), log.last_stable_offset());
        Self {
            high_watermark,
            stable,
            start: log.start_offset(),
            upto: match isolation {
                Isolation::ReadCommitted => stable,
                Isolation::ReadUncommitted => high_watermark,
            },
        }
    }

    fn check(&self, log: &PartitionLog, offset: i64) -> KResult<()> {
        if log.is_deleted() {
            return Err(Code::UnknownTopicOrPartition);
        }
        if (self.start..=self.high_watermark).contains(&offset) { Ok(()) } else { Err(Code::OffsetOutOfRange) }
    }
}

impl Query {
    fn new(call: &Call<'_>, request: &FetchRequest) -> Self {
        let resolve = |t: &FetchTopic| {
            let topic = call.inner().topics.get(&t.topic);
            let target = |wanted: &FetchPartition| Target {
                partition: topic
                    .as_ref()
                    .and_then(|t| t.partition(wanted.partition))
                    .ok_or(Code::UnknownTopicOrPartition),
                wanted: wanted.clone(),
            };
            (t.topic.clone(), t.partitions.iter().map(target).collect())
        };
        let max_bytes = usize::try_from(request.max_bytes).unwrap_or(0);
        Self {
            topics: request.topics.iter().map(resolve).collect(),
            isolation: Isolation::of(request.isolation_level),
            min_bytes: u64::try_from(request.min_bytes).unwrap_or(0),
            max_bytes: max_bytes.min(MAX_RESPONSE_BYTES),
        }
    }

    fn targets(&self) -> impl Iterator<Item = &Target> {
        self.topics.iter().flat_map(|(_, targets)| targets)
    }

    fn partitions(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.targets().filter_map(|t| t.partition.as_ref().ok())
    }

    /// The response, if there is enough to answer or this is the last look.
    fn attempt(&self, look: Look) -> Option<Fetched> {
        if look == Look::Early && !self.may_have_enough() {
            return None;
        }
        let mut records = Vec::new();
        let mut taken = Taken::default();
        let mut failed = false;
        let read = |(name, targets): &(TopicName, Vec<Target>)| {
            let read = |target: &Target| {
                let (data, found) = self.read(target, &mut taken);
                records.push(found);
                failed |= data.error_code != 0;
                data
            };
            FetchableTopicResponse::default()
                .with_topic(name.clone())
                .with_partitions(targets.iter().map(read).collect())
        };
        let responses = self.topics.iter().map(read).collect();
        let is_enough = self.min_bytes == 0 || taken.bytes > 0 || failed || look == Look::Last;
        is_enough.then(|| Fetched { response: FetchResponse::default().with_responses(responses), records })
    }

    /// A look at the sizes alone; also true if a partition has something wrong to report.
    fn may_have_enough(&self) -> bool {
        self.available().is_none_or(|bytes| bytes >= self.min_bytes)
    }

    /// Bytes that the partitions have for the reader; none if one of them has something wrong to report.
    fn available(&self) -> Option<u64> {
        let mut bytes = 0;
        for target in self.targets() {
            let partition = target.partition.as_ref().ok()?;
            let log = partition.log.lock();
            let view = View::of(&log, self.isolation);
            let from = target.wanted.fetch_offset;
            view.check(&log, from).ok()?;
            bytes += log.available_bytes(from, view.upto);
        }
        Some(bytes)
    }

    fn read(&self, target: &Target, taken: &mut Taken) -> (PartitionData, Records) {
        let data = PartitionData::default()
            .with_partition_index(target.wanted.partition)
            .with_preferred_read_replica(BrokerId(-1))
            .with_records(Some(Bytes::new()));
        let failed = |data: PartitionData, code: Code| {
            let data = data.with_error_code(code.code());
            let data = data.with_high_watermark(-1).with_last_stable_offset(-1).with_log_start_offset(-1);
            (data, Records::default())
        };
        let partition = match &target.partition {
            Ok(partition) => partition,
            Err(code) => return failed(data, *code),
        };
        let mut log = partition.log.lock();
        let view = View::of(&log, self.isolation);
        let from = target.wanted.fetch_offset;
        if let Err(code) = view.check(&log, from) {
            return failed(data, code);
        }
        let wanted = usize::try_from(target.wanted.partition_max_bytes).unwrap_or(0);
        let range = ReadRange {
            from,
            upto: view.upto,
            max_bytes: wanted.min(self.max_bytes.saturating_sub(taken.bytes)),
            max_opened_bytes: MAX_RESPONSE_OPENED_BYTES.saturating_sub(taken.opened_bytes),
            oversized_first: if taken.bytes == 0 { Oversized::Return } else { Oversized::Withhold },
        };
        let ReadBatches { batches: records, end_offset, opened_bytes } = match log.read(range) {
            Ok(found) => found,
            Err(error) => {
                tracing::error!(%error, "read failed");
                log.doubt();
                return failed(data, Code::KafkaStorageError);
            }
        };
        taken.bytes += records.len();
        taken.opened_bytes += opened_bytes;
        let aborted = (self.isolation == Isolation::ReadCommitted)
            .then(|| log.aborted_in(from, end_offset).iter().map(aborted).collect());
        let data = data
            .with_high_watermark(view.high_watermark)
            .with_last_stable_offset(view.stable)
            .with_log_start_offset(view.start)
            .with_aborted_transactions(aborted);
        (data, records)
    }
}

fn aborted(txn: &AbortedTxn) -> AbortedTransaction {
    AbortedTransaction::default().with_producer_id(ProducerId(txn.producer_id)).with_first_offset(txn.first_offset)
}

#[cfg(test)]
mod tests {
    use kafka_protocol::protocol::StrBytes;

    use super::*;
    use crate::BrokerConfig;
    use crate::api::Client;
    use crate::broker::Broker;
    use crate::log::batch::tests::{NO_PRODUCER, batch};
    use crate::log::produced::Produced;
    use crate::log::{AppendRules, Timestamps};
    use crate::quota::Metered;

    const MS: Duration = Duration::from_millis(1);

    struct Rig {
        broker: Broker,
        client: Client,
        _dir: tempfile::TempDir,
    }

    impl Rig {
        fn new(is_own: bool) -> Self {
            let dir = tempfile::tempdir().unwrap();
            let broker = Broker::open(BrokerConfig::new(dir.path())).unwrap();
            broker.ensure_topic("t", 1, &[]).unwrap();
            let mut client = Client::new("h".to_owned(), ("h".to_owned(), 1), Metered::No);
            client.is_own = is_own;
            Self { broker, client, _dir: dir }
        }

        fn append(&self, records: i32) {
            let bytes = batch(records, 9, NO_PRODUCER);
            let produced = Produced::check(&bytes, 10_000_000).unwrap();
            let rules = AppendRules { segment_bytes: 1 << 30, now_ms: 1, timestamps: Timestamps::Producer };
            let partition = self.broker.inner().topics.partition("t", 0).unwrap();
            partition.log.lock().append(&produced, &rules).unwrap();
            partition.waiters.wake();
        }

        /// How long a fetch from an offset lasts that may wait for `wait`, and what it brings.
        async fn fetch(&self, from: i64, wait: Duration) -> (Duration, usize) {
            let call = Call { broker: &self.broker, client: &self.client, client_id: "c", version: 12 };
            let partition = FetchPartition::default().with_fetch_offset(from).with_partition_max_bytes(1 << 20);
            let topic = FetchTopic::default()
                .with_topic(TopicName(StrBytes::from_static_str("t")))
                .with_partitions(vec![partition]);
            let request = FetchRequest::default()
                .with_max_wait_ms(i32::try_from(wait.as_millis()).unwrap())
                .with_min_bytes(1)
                .with_max_bytes(1 << 20)
                .with_topics(vec![topic]);
            let begun = Instant::now();
            let fetched = fetch(&call, request).await;
            (begun.elapsed(), fetched.records_len())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn records_that_keep_coming_reach_the_embedders_reader_some_at_a_time_and_others_at_once() {
        for (is_own, paced_ms) in [(true, 20), (false, 0)] {
            let rig = Rig::new(is_own);
            let settled = if is_own { SETTLED_AFTER } else { Duration::ZERO };
            let comes = async {
                tokio::time::sleep(100 * MS).await;
                rig.append(1);
            };
            let (fetched, ()) = tokio::join!(rig.fetch(0, 500 * MS), comes);
            assert_eq!(fetched.0, 100 * MS + settled, "what comes right behind is there then");
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(rig.fetch(0, 500 * MS).await.0, Duration::ZERO, "the last answer is long ago");
            rig.append(1);
            assert_eq!(rig.fetch(1, 500 * MS).await.0.as_millis(), paced_ms);
            rig.append(1);
            assert_eq!(rig.fetch(2, 50 * MS).await.0, Duration::ZERO, "it would not wait long");
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(rig.fetch(2, 500 * MS).await.0, Duration::ZERO, "the last answer is long ago");
            rig.append(9_000);
            let (lasted, bytes) = rig.fetch(3, 500 * MS).await;
            assert!(lasted.is_zero() && bytes as u64 > MANY_BYTES, "much does not wait: {lasted:?} {bytes}");
        }
    }
}
