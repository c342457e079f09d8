//! Produce: batches are opened and checked, given their offsets and written as they came.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};

use super::Call;
use crate::Fsync;
use crate::error::{Code, KResult};
use crate::log::batch::BatchHeader;
use crate::log::produced::Produced;
use crate::log::{Appended, Timestamps};
use crate::topic::settings::TopicSettings;
use crate::topic::{Partition, Topic};

/// First version in which clients know zstd (KIP-110).
const FIRST_ZSTD_VERSION: i16 = 7;

/// Appends the batches of a request; no response when the client asked for none.
pub(super) async fn produce(call: &Call<'_>, request: ProduceRequest) -> Option<ProduceResponse> {
    let acks = request.acks;
    let transactional_id = request.transactional_id.map(|id| id.0.to_string());
    let mut unsynced = Vec::new();
    let mut responses = Vec::with_capacity(request.topic_data.len());
    for data in &request.topic_data {
        let mut writer = Writer {
            call,
            topic: call.inner().topics.get(&data.name),
            transactional_id: transactional_id.as_deref(),
            unsynced: &mut unsynced,
        };
        responses.push(writer.append_all(data, acks));
    }
    if call.inner().config.fsync == Fsync::EveryBatch
        && let Err(code) = sync(call, unsynced).await
    {
        refuse_all(&mut responses, code);
    }
    (acks != 0).then(|| ProduceResponse::default().with_responses(responses))
}

/// Files to sync before the acknowledgement, with the partitions that fail if that fails.
type Unsynced = Vec<(Arc<Partition>, Arc<File>)>;

struct Writer<'a> {
    call: &'a Call<'a>,
    topic: Option<Arc<Topic>>,
    transactional_id: Option<&'a str>,
    unsynced: &'a mut Unsynced,
}

impl Writer<'_> {
    fn append_all(&mut self, data: &TopicProduceData, acks: i16) -> TopicProduceResponse {
        let responses = data.partition_data.iter().map(|partition| {
            let outcome =
                if (-1..=1).contains(&acks) { self.append(partition) } else { Err(Code::InvalidRequiredAcks) };
            response(partition.index, outcome)
        });
        let responses = responses.collect();
        TopicProduceResponse::default().with_name(data.name.clone()).with_partition_responses(responses)
    }

    fn append(&mut self, data: &PartitionProduceData) -> KResult<(Appended, i64)> {
        let topic = self.topic.as_ref().ok_or(Code::UnknownTopicOrPartition)?;
        let partition = topic.partition(data.index).ok_or(Code::UnknownTopicOrPartition)?;
        let batch: &Bytes = data.records.as_ref().ok_or(Code::InvalidRecord)?;
        let header = BatchHeader::check_produced(batch)?;
        if header.is_zstd() && self.call.version < FIRST_ZSTD_VERSION {
            return Err(Code::UnsupportedCompressionType);
        }
        let settings = topic.settings();
        let rules = settings.append_rules(crate::now_ms());
        let produced = Produced::open(header, batch, settings.max_message_bytes)?;
        if settings.compaction.is_some() && produced.facts.has_null_key {
            return Err(Code::InvalidRecord);
        }
        check_times(&produced, &settings, rules.now_ms)?;
        let mut log = partition.log.lock();
        // Under the lock, so that no marker of the transaction comes between check and append.
        self.check_txn(&produced.header, &topic.name, data.index)?;
        let appended = log.append(&produced, &rules)?;
        let start = log.start_offset();
        if self.call.inner().config.fsync == Fsync::EveryBatch {
            let file = log.file_to_sync();
            self.unsynced.push((partition.clone(), file));
        }
        drop(log);
        partition.waiters.wake();
        Ok((appended, start))
    }

    /// A batch of a transaction needs one that is open and has the partition; others need none.
    fn check_txn(&self, header: &BatchHeader, topic: &str, partition: i32) -> KResult<()> {
        match (header.is_transactional(), self.transactional_id) {
            (false, _) => Ok(()),
            (true, None) => Err(Code::InvalidTxnState),
            (true, Some(id)) => {
                let producer = (header.producer_id, header.producer_epoch);
                let txns = self.call.inner();
                txns.check_txn_append(id, producer, (topic, partition))
            }
        }
    }
}

/// Refuses times that are further from the broker's than the topic allows.
fn check_times(produced: &Produced<'_>, settings: &TopicSettings, now_ms: i64) -> KResult<()> {
    if settings.timestamps == Timestamps::Append {
        return Ok(());
    }
    let (limits, facts) = (settings.timestamp_limits, &produced.facts);
    let is_too_late = limits.after_ms.is_some_and(|after_ms| facts.max_timestamp_ms.saturating_sub(after_ms) > now_ms);
    let is_too_early =
        limits.before_ms.is_some_and(|before_ms| facts.min_timestamp_ms < now_ms.saturating_sub(before_ms));
    if is_too_late || is_too_early { Err(Code::InvalidTimestamp) } else { Ok(()) }
}

async fn sync(call: &Call<'_>, unsynced: Unsynced) -> KResult<()> {
    let work = move |_: &crate::broker::Inner| {
        let mut outcome = Ok(());
        for (partition, file) in unsynced {
            if let Err(error) = file.sync_data() {
                tracing::error!(%error, "sync failed: partition is read-only");
                partition.log.lock().make_read_only();
                outcome = Err(Code::KafkaStorageError);
            }
        }
        outcome
    };
    call.blocking(work).await?
}

fn refuse_all(responses: &mut [TopicProduceResponse], code: Code) {
    for partition in responses.iter_mut().flat_map(|t| &mut t.partition_responses) {
        if partition.error_code == 0 {
            *partition = response(partition.index, Err(code));
        }
    }
}

fn response(index: i32, outcome: KResult<(Appended, i64)>) -> PartitionProduceResponse {
    let response = PartitionProduceResponse::default().with_index(index);
    match outcome {
        Ok((appended, start)) => response
            .with_base_offset(appended.base_offset)
            .with_log_append_time_ms(appended.append_time_ms)
            .with_log_start_offset(start),
        Err(code) => response
            .with_error_code(code.code())
            .with_base_offset(-1)
            .with_log_append_time_ms(-1)
            .with_log_start_offset(-1),
    }
}
