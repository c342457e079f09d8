//! What administrators look at: DescribeProducers, ListTransactions and DescribeTransactions (KIP-664),
//! DescribeLogDirs (KIP-113) and OffsetForLeaderEpoch (KIP-320).

use std::collections::{BTreeMap, HashSet};

use kafka_protocol::messages::describe_log_dirs_response::{
    DescribeLogDirsPartition, DescribeLogDirsResult, DescribeLogDirsTopic,
};
use kafka_protocol::messages::describe_producers_response::{PartitionResponse, ProducerState, TopicResponse};
use kafka_protocol::messages::describe_transactions_response::{TopicData, TransactionState as Described};
use kafka_protocol::messages::list_transactions_response::TransactionState as Listed;
use kafka_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use kafka_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use kafka_protocol::messages::{
    DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeProducersRequest, DescribeProducersResponse,
    DescribeTransactionsRequest, DescribeTransactionsResponse, ListTransactionsRequest, ListTransactionsResponse,
    OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse, ProducerId, TopicName, TransactionalId,
};
use kafka_protocol::protocol::StrBytes;

use super::{Call, distinct};
use crate::error::{Code, KResult};
use crate::log::producers::ActiveProducer;
use crate::meta::{TxnMeta, TxnStatus};
use crate::topic::Topic;
use crate::wire::text;

/// Set where a number is not known.
const UNKNOWN: i64 = -1;
/// The one leader's epoch: it never changes.
const EPOCH: i32 = 0;
/// Epochs that a client does not give.
const NO_EPOCH: i32 = -1;

/// Every state of a transaction, as clients name it.
const STATUSES: [TxnStatus; 6] = [
    TxnStatus::Empty,
    TxnStatus::Ongoing,
    TxnStatus::PrepareCommit,
    TxnStatus::PrepareAbort,
    TxnStatus::Committed,
    TxnStatus::Aborted,
];

fn name_of(status: TxnStatus) -> &'static str {
    match status {
        TxnStatus::Empty => "Empty",
        TxnStatus::Ongoing => "Ongoing",
        TxnStatus::PrepareCommit => "PrepareCommit",
        TxnStatus::PrepareAbort => "PrepareAbort",
        TxnStatus::Committed => "CompleteCommit",
        TxnStatus::Aborted => "CompleteAbort",
    }
}

/// Producers that wrote to partitions lately.
pub(super) fn describe_producers(call: &Call<'_>, request: &DescribeProducersRequest) -> DescribeProducersResponse {
    let mut seen = HashSet::new();
    let topics = request.topics.iter().map(|topic| {
        let distinct = topic.partition_indexes.iter().filter(|index| seen.insert((&topic.name, **index)));
        let partitions = distinct.map(|&index| {
            let response = PartitionResponse::default().with_partition_index(index);
            match call.inner().topics.partition(&topic.name, index) {
                Ok(partition) => {
                    let active = partition.log.lock().producers().active();
                    response.with_active_producers(active.into_iter().map(producer_state).collect())
                }
                Err(code) => response.with_error_code(code.code()),
            }
        });
        TopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions.collect())
    });
    DescribeProducersResponse::default().with_topics(topics.collect())
}

fn producer_state(active: ActiveProducer) -> ProducerState {
    ProducerState::default()
        .with_producer_id(ProducerId(active.id))
        .with_producer_epoch(i32::from(active.epoch))
        .with_last_sequence(active.last_sequence.unwrap_or(-1))
        .with_last_timestamp(active.last_used_ms)
        .with_coordinator_epoch(if active.has_marker { EPOCH } else { NO_EPOCH })
        .with_current_txn_start_offset(active.open_since_offset.unwrap_or(UNKNOWN))
}

/// Transactional ids, all or those that match every filter.
pub(super) fn list_transactions(call: &Call<'_>, request: &ListTransactionsRequest) -> ListTransactionsResponse {
    let (known, unknown): (Vec<&StrBytes>, Vec<&StrBytes>) =
        request.state_filters.iter().partition(|name| STATUSES.iter().any(|s| name_of(*s) == &***name));
    let now_ms = crate::now_ms();
    let is_wanted = |txn: &TxnMeta| {
        let by_state = request.state_filters.is_empty() || known.iter().any(|name| name_of(txn.status) == &***name);
        let ids = &request.producer_id_filters;
        let by_id = ids.is_empty() || ids.iter().any(|id| id.0 == txn.producer_id);
        let by_age = request.duration_filter < 0
            || (txn.status == TxnStatus::Ongoing && now_ms.saturating_sub(txn.begun_ms) >= request.duration_filter);
        by_state && by_id && by_age
    };
    let meta = call.inner().meta.lock();
    let listed = meta.state().txns.iter().filter(|(_, txn)| is_wanted(txn)).map(|(id, txn)| {
        Listed::default()
            .with_transactional_id(TransactionalId(text(id.as_str())))
            .with_producer_id(ProducerId(txn.producer_id))
            .with_transaction_state(text(name_of(txn.status)))
    });
    ListTransactionsResponse::default()
        .with_unknown_state_filters(unknown.into_iter().cloned().collect())
        .with_transaction_states(listed.collect())
}

/// Transactions by their ids.
pub(super) fn describe_transactions(
    call: &Call<'_>,
    request: &DescribeTransactionsRequest,
) -> DescribeTransactionsResponse {
    let meta = call.inner().meta.lock();
    let one = |id: &TransactionalId| {
        let described = Described::default().with_transactional_id(id.clone());
        let Some(txn) = meta.state().txns.get(id.as_str()) else {
            return described.with_error_code(Code::TransactionalIdNotFound.code());
        };
        let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
        for (topic, index) in &txn.partitions {
            by_topic.entry(topic).or_default().push(*index);
        }
        let topics = by_topic.into_iter().map(|(topic, partitions)| {
            TopicData::default().with_topic(TopicName(text(topic))).with_partitions(partitions)
        });
        let is_open = txn.status == TxnStatus::Ongoing;
        described
            .with_transaction_state(text(name_of(txn.status)))
            .with_transaction_timeout_ms(txn.timeout_ms)
            .with_transaction_start_time_ms(if is_open { txn.begun_ms } else { UNKNOWN })
            .with_producer_id(ProducerId(txn.producer_id))
            .with_producer_epoch(txn.epoch)
            .with_topics(topics.collect())
    };
    let ids = distinct(&request.transactional_ids, |id| id);
    DescribeTransactionsResponse::default().with_transaction_states(ids.map(one).collect())
}

/// The folder of the logs and how large each is.
pub(super) fn describe_log_dirs(call: &Call<'_>, request: &DescribeLogDirsRequest) -> DescribeLogDirsResponse {
    let topics = match &request.topics {
        None => call.inner().topics.all().iter().map(|topic| sizes_of(topic, None)).collect(),
        Some(wanted) => wanted
            .iter()
            .filter_map(|w| call.inner().topics.get(&w.topic).map(|topic| sizes_of(&topic, Some(&w.partitions))))
            .collect(),
    };
    let result = DescribeLogDirsResult::default()
        .with_log_dir(text(call.inner().config.data_dir.display().to_string()))
        .with_topics(topics)
        .with_total_bytes(UNKNOWN)
        .with_usable_bytes(UNKNOWN);
    DescribeLogDirsResponse::default().with_results(vec![result])
}

fn sizes_of(topic: &Topic, wanted: Option<&[i32]>) -> DescribeLogDirsTopic {
    let partitions = (0..).zip(topic.partitions()).filter(|(index, _)| wanted.is_none_or(|w| w.contains(index)));
    let sizes = partitions.map(|(index, partition)| {
        let bytes = partition.log.lock().size_bytes();
        DescribeLogDirsPartition::default()
            .with_partition_index(index)
            .with_partition_size(i64::try_from(bytes).unwrap_or(i64::MAX))
    });
    DescribeLogDirsTopic::default().with_name(TopicName(text(topic.name.as_str()))).with_partitions(sizes.collect())
}

/// Where an epoch of a partition's leader ended: the only one is the present one.
pub(super) fn offset_for_leader_epoch(
    call: &Call<'_>,
    request: &OffsetForLeaderEpochRequest,
) -> OffsetForLeaderEpochResponse {
    let topics = request.topics.iter().map(|topic| {
        let one = |wanted: &OffsetForLeaderPartition| {
            let response = EpochEndOffset::default().with_partition(wanted.partition);
            match epoch_end(call, &topic.topic, wanted) {
                Ok(Some(end)) => response.with_leader_epoch(EPOCH).with_end_offset(end),
                Ok(None) => response.with_leader_epoch(NO_EPOCH).with_end_offset(UNKNOWN),
                Err(code) => response.with_error_code(code.code()).with_leader_epoch(NO_EPOCH).with_end_offset(UNKNOWN),
            }
        };
        let partitions = topic.partitions.iter().map(one).collect();
        OffsetForLeaderTopicResult::default().with_topic(topic.topic.clone()).with_partitions(partitions)
    });
    OffsetForLeaderEpochResponse::default().with_topics(topics.collect())
}

fn epoch_end(call: &Call<'_>, topic: &str, wanted: &OffsetForLeaderPartition) -> KResult<Option<i64>> {
    let partition = call.inner().topics.partition(topic, wanted.partition)?;
    if wanted.current_leader_epoch > EPOCH {
        return Err(Code::UnknownLeaderEpoch);
    }
    let end = partition.log.lock().high_watermark();
    Ok((wanted.leader_epoch == EPOCH).then_some(end))
}
