//! Fetch: whole batches from several partitions, waiting for new ones where there are too few.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{AbortedTransaction, FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{BrokerId, FetchRequest, FetchResponse, ProducerId, TopicName};
use tokio::time::Instant;

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
    let mut waiter = Waiter::default();
    let mut is_registered = false;
    loop {
        let look = if Instant::now() < deadline { Look::Early } else { Look::Last };
        if let Some(fetched) = query.attempt(look) {
            return fetched;
        }
        if is_registered {
            // Both outcomes lead to another look.
            let _ = tokio::time::timeout_at(deadline, waiter.woken()).await;
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
        let mut bytes = 0;
        for target in self.targets() {
            let Ok(partition) = &target.partition else {
                return true;
            };
            let log = partition.log.lock();
            let view = View::of(&log, self.isolation);
            let from = target.wanted.fetch_offset;
            if view.check(&log, from).is_err() {
                return true;
            }
            bytes += log.available_bytes(from, view.upto);
        }
        bytes >= self.min_bytes
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
