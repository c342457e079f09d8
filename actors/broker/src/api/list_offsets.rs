//! ListOffsets: the start, the end, or the first record at a time.

use std::io;

use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::Call;
use crate::error::{Code, KResult};
use crate::log::{PartitionLog, TimedOffset};
use crate::topic::Partition;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const READ_COMMITTED: i8 = 1;
const NOT_FOUND: TimedOffset = TimedOffset { offset: -1, timestamp_ms: -1 };

/// Finds offsets by time or position.
pub(super) async fn list_offsets(call: &Call<'_>, request: ListOffsetsRequest) -> ListOffsetsResponse {
    let isolation = request.isolation_level;
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for p in &topic.partitions {
            let response =
                ListOffsetsPartitionResponse::default().with_partition_index(p.partition_index).with_leader_epoch(-1);
            partitions.push(match find(call, &topic.name, p, isolation).await {
                Ok(at) => response.with_offset(at.offset).with_timestamp(at.timestamp_ms),
                Err(code) => response.with_error_code(code.code()).with_offset(-1).with_timestamp(-1),
            });
        }
        topics.push(ListOffsetsTopicResponse::default().with_name(topic.name).with_partitions(partitions));
    }
    ListOffsetsResponse::default().with_topics(topics)
}

async fn find(call: &Call<'_>, topic: &str, wanted: &ListOffsetsPartition, isolation: i8) -> KResult<TimedOffset> {
    let partition = call.inner().topics.partition(topic, wanted.partition_index)?;
    let timestamp_ms = wanted.timestamp;
    if let Some(offset) = position(&partition.log.lock(), timestamp_ms, isolation) {
        return Ok(TimedOffset { offset, timestamp_ms: -1 });
    }
    if timestamp_ms < 0 && timestamp_ms != MAX_TIMESTAMP {
        return Err(Code::UnsupportedVersion);
    }
    let found = call.blocking(move |_| search(&partition, timestamp_ms)).await?.map_err(|error| {
        tracing::error!(topic, %error, "search by time failed");
        Code::KafkaStorageError
    })?;
    Ok(found.unwrap_or(NOT_FOUND))
}

/// The offset that is asked for by a number that stands for a position.
fn position(log: &PartitionLog, wanted: i64, isolation: i8) -> Option<i64> {
    match wanted {
        LATEST if isolation == READ_COMMITTED => Some(log.last_stable_offset()),
        LATEST => Some(log.high_watermark()),
        EARLIEST | EARLIEST_LOCAL => Some(log.start_offset()),
        _ => None,
    }
}

/// Looks for a record by time; blocks.
fn search(partition: &Partition, timestamp_ms: i64) -> io::Result<Option<TimedOffset>> {
    let log = partition.log.lock();
    let batch = if timestamp_ms == MAX_TIMESTAMP { log.batch_of_max_time()? } else { log.batch_at_time(timestamp_ms)? };
    drop(log);
    Ok(batch.map(|batch| batch.record()))
}
