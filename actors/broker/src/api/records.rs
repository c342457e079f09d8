//! DeleteRecords: moving the start of logs.

use kafka_protocol::messages::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};
use kafka_protocol::messages::{DeleteRecordsRequest, DeleteRecordsResponse};

use super::Call;
use crate::broker::Inner;

/// Deletes the records below the given offsets.
pub(super) async fn delete(call: &Call<'_>, request: DeleteRecordsRequest) -> DeleteRecordsResponse {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for p in topic.partitions {
            let name = topic.name.to_string();
            let (index, offset) = (p.partition_index, p.offset);
            let work = move |broker: &Inner| broker.topics.delete_records(&name, index, offset);
            let outcome = call.blocking(work).await.and_then(|outcome| outcome);
            let result = DeleteRecordsPartitionResult::default().with_partition_index(index);
            partitions.push(match outcome {
                Ok(start) => result.with_low_watermark(start),
                Err(code) => result.with_low_watermark(-1).with_error_code(code.code()),
            });
        }
        let result = DeleteRecordsTopicResult::default().with_name(topic.name).with_partitions(partitions);
        topics.push(result);
    }
    DeleteRecordsResponse::default().with_topics(topics)
}
