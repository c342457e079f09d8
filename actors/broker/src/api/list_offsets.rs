//! ListOffsets: the start, the end, or the first record at a time.

use kafka_protocol::messages::list_offsets_request::ListOffsetsPartition;
use kafka_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::Call;
use crate::error::{Code, KResult};
use crate::log::TimedOffset;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const READ_COMMITTED: i8 = 1;
const NOT_FOUND: TimedOffset = TimedOffset { offset: -1, timestamp_ms: -1 };

/// Finds offsets by time or position.
pub(super) fn list_offsets(call: &Call<'_>, request: &ListOffsetsRequest) -> ListOffsetsResponse {
    let isolation = request.isolation_level;
    let topics = request.topics.iter().map(|topic| {
        let find = |p: &ListOffsetsPartition| {
            let found = find(call, &topic.name, p, isolation);
            let response =
                ListOffsetsPartitionResponse::default().with_partition_index(p.partition_index).with_leader_epoch(-1);
            match found {
                Ok(at) => response.with_offset(at.offset).with_timestamp(at.timestamp_ms),
                Err(code) => response.with_error_code(code.code()).with_offset(-1).with_timestamp(-1),
            }
        };
        let partitions = topic.partitions.iter().map(find).collect();
        ListOffsetsTopicResponse::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    ListOffsetsResponse::default().with_topics(topics.collect())
}

fn find(call: &Call<'_>, topic: &str, wanted: &ListOffsetsPartition, isolation: i8) -> KResult<TimedOffset> {
    let partition = call.inner().topics.partition(topic, wanted.partition_index)?;
    let log = partition.log.lock();
    let position = |offset| TimedOffset { offset, timestamp_ms: -1 };
    let by_time = match wanted.timestamp {
        LATEST if isolation == READ_COMMITTED => return Ok(position(log.last_stable_offset())),
        LATEST => return Ok(position(log.high_watermark())),
        EARLIEST | EARLIEST_LOCAL => return Ok(position(log.start_offset())),
        MAX_TIMESTAMP => log.offset_of_max_time(),
        timestamp_ms if timestamp_ms >= 0 => log.offset_at_time(timestamp_ms),
        _ => return Err(Code::UnsupportedVersion),
    };
    let found = by_time.map_err(|error| {
        tracing::error!(topic, %error, "search by time failed");
        Code::KafkaStorageError
    })?;
    Ok(found.unwrap_or(NOT_FOUND))
}
