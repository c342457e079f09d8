//! AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit, EndTxn and WriteTxnMarkers.

use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::add_partitions_to_txn_response::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopicResult,
};
use kafka_protocol::messages::txn_offset_commit_response::{
    TxnOffsetCommitResponsePartition, TxnOffsetCommitResponseTopic,
};
use kafka_protocol::messages::write_txn_markers_request::WritableTxnMarker;
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    EndTxnRequest, EndTxnResponse, TxnOffsetCommitRequest, TxnOffsetCommitResponse, WriteTxnMarkersRequest,
    WriteTxnMarkersResponse,
};

use super::Call;
use super::offsets::committed;
use crate::broker::Inner;
use crate::error::{Code, KResult, code_of};
use crate::group::Identity;
use crate::log::batch::Marker;
use crate::meta::TxnOffset;

/// First version in which a replaced producer is told so by a code of its own (KIP-588).
const FIRST_VERSION_WITH_FENCED: i16 = 2;

/// The code as the version of the request knows it.
fn told(call: &Call<'_>, outcome: &KResult<()>) -> i16 {
    match outcome {
        Err(Code::ProducerFenced) if call.version < FIRST_VERSION_WITH_FENCED => Code::InvalidProducerEpoch.code(),
        other => code_of(other),
    }
}

/// Takes partitions into a transaction; all of them or none.
pub(super) async fn add_partitions(call: &Call<'_>, request: AddPartitionsToTxnRequest) -> AddPartitionsToTxnResponse {
    let wanted = &request.v3_and_below_topics;
    let exists = |topic: &str, index: i32| call.inner().topics.partition(topic, index).is_ok();
    let partitions: Vec<(String, i32)> =
        wanted.iter().flat_map(|t| t.partitions.iter().map(|p| (t.name.to_string(), *p))).collect();
    let all_exist = partitions.iter().all(|(t, p)| exists(t, *p));
    let outcome = if all_exist {
        let id = request.v3_and_below_transactional_id.to_string();
        let producer = (request.v3_and_below_producer_id.0, request.v3_and_below_producer_epoch);
        let work = move |broker: &Inner| broker.add_txn_partitions(&id, producer, partitions);
        call.blocking(work).await.and_then(|outcome| outcome)
    } else {
        Err(Code::OperationNotAttempted)
    };
    let result = |topic: &AddPartitionsToTxnTopic| {
        let one = |index: &i32| {
            let code =
                if exists(&topic.name, *index) { told(call, &outcome) } else { Code::UnknownTopicOrPartition.code() };
            AddPartitionsToTxnPartitionResult::default().with_partition_index(*index).with_partition_error_code(code)
        };
        AddPartitionsToTxnTopicResult::default()
            .with_name(topic.name.clone())
            .with_results_by_partition(topic.partitions.iter().map(one).collect())
    };
    let results = wanted.iter().map(result).collect();
    AddPartitionsToTxnResponse::default().with_results_by_topic_v3_and_below(results)
}

/// Takes a group's offsets into a transaction.
pub(super) async fn add_offsets(call: &Call<'_>, request: AddOffsetsToTxnRequest) -> AddOffsetsToTxnResponse {
    let producer = (request.producer_id.0, request.producer_epoch);
    let work = move |broker: &Inner| broker.add_txn_group(&request.transactional_id, producer, &request.group_id);
    let outcome = call.blocking(work).await.and_then(|outcome| outcome);
    AddOffsetsToTxnResponse::default().with_error_code(told(call, &outcome))
}

/// Stores offsets that are committed with a transaction.
pub(super) async fn commit_offsets(call: &Call<'_>, request: TxnOffsetCommitRequest) -> TxnOffsetCommitResponse {
    let topics = request.topics.clone();
    let work = move |broker: &Inner| commit_all(broker, &request);
    let outcome = call.blocking(work).await.and_then(|outcome| outcome);
    let code = told(call, &outcome);
    let topics = topics.into_iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| {
            TxnOffsetCommitResponsePartition::default().with_partition_index(p.partition_index).with_error_code(code)
        });
        TxnOffsetCommitResponseTopic::default().with_partitions(partitions.collect()).with_name(topic.name)
    });
    TxnOffsetCommitResponse::default().with_topics(topics.collect())
}

fn commit_all(broker: &Inner, request: &TxnOffsetCommitRequest) -> KResult<()> {
    let mut offsets = Vec::new();
    for topic in &request.topics {
        for p in &topic.partitions {
            broker.topics.partition(&topic.name, p.partition_index)?;
            offsets.push(TxnOffset {
                group: request.group_id.to_string(),
                topic: topic.name.to_string(),
                partition: p.partition_index,
                committed: committed(p.committed_offset, p.committed_leader_epoch, p.committed_metadata.as_ref())?,
            });
        }
    }
    let identity = Identity {
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_ref().map(|i| i.to_string()),
        generation: request.generation_id,
    };
    let producer = (request.producer_id.0, request.producer_epoch);
    let of = (&**request.group_id, &identity);
    broker.add_txn_offsets(&request.transactional_id, producer, of, offsets)
}

/// Commits or aborts a transaction.
pub(super) async fn end(call: &Call<'_>, request: EndTxnRequest) -> EndTxnResponse {
    let producer = (request.producer_id.0, request.producer_epoch);
    let kind = if request.committed { Marker::Commit } else { Marker::Abort };
    let id = request.transactional_id.to_string();
    let work = move |broker: &Inner| broker.end_txn(&id, producer, kind);
    let outcome = call.blocking(work).await.and_then(|outcome| outcome);
    EndTxnResponse::default().with_error_code(told(call, &outcome))
}

/// Ends transactions that hang in partitions.
pub(super) async fn write_markers(call: &Call<'_>, request: WriteTxnMarkersRequest) -> WriteTxnMarkersResponse {
    let mut results = Vec::with_capacity(request.markers.len());
    for marker in request.markers {
        let id = marker.producer_id;
        let work = move |broker: &Inner| write_marker(broker, &marker);
        let topics = call.blocking(work).await.unwrap_or_default();
        results.push(WritableTxnMarkerResult::default().with_producer_id(id).with_topics(topics));
    }
    WriteTxnMarkersResponse::default().with_markers(results)
}

fn write_marker(broker: &Inner, marker: &WritableTxnMarker) -> Vec<WritableTxnMarkerTopicResult> {
    let kind = if marker.transaction_result { Marker::Commit } else { Marker::Abort };
    let producer = (marker.producer_id.0, marker.producer_epoch);
    let topics = marker.topics.iter().map(|topic| {
        let one = |index: &i32| {
            let outcome = broker.end_hanging(producer, (&topic.name, *index), kind);
            WritableTxnMarkerPartitionResult::default().with_partition_index(*index).with_error_code(code_of(&outcome))
        };
        WritableTxnMarkerTopicResult::default()
            .with_name(topic.name.clone())
            .with_partitions(topic.partition_indexes.iter().map(one).collect())
    });
    topics.collect()
}
