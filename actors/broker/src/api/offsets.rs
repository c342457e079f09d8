//! OffsetCommit, OffsetFetch and OffsetDelete: how far a group got.

use std::collections::{BTreeMap, BTreeSet};

use kafka_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use kafka_protocol::messages::offset_delete_request::OffsetDeleteRequestPartition;
use kafka_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use kafka_protocol::messages::{
    OffsetCommitRequest, OffsetCommitResponse, OffsetDeleteRequest, OffsetDeleteResponse, OffsetFetchRequest,
    OffsetFetchResponse, TopicName,
};
use kafka_protocol::protocol::StrBytes;

use super::Call;
use crate::error::{Code, code_of};
use crate::group::{Identity, MAX_METADATA_BYTES, OffsetsQuery};
use crate::meta::CommittedOffset;
use crate::wire::text;

/// First version of OffsetFetch that asks for several groups.
const FIRST_VERSION_WITH_GROUPS: i16 = 8;

/// An offset as a client commits it, or why it may not.
pub(super) fn committed(offset: i64, leader_epoch: i32, metadata: Option<&StrBytes>) -> Result<CommittedOffset, Code> {
    let metadata = metadata.map_or("", |m| m);
    if metadata.len() > MAX_METADATA_BYTES {
        return Err(Code::OffsetMetadataTooLarge);
    }
    Ok(CommittedOffset { offset, metadata: metadata.to_owned(), committed_ms: crate::now_ms(), leader_epoch })
}

/// Stores offsets for a group.
pub(super) fn commit(call: &Call<'_>, request: &OffsetCommitRequest) -> OffsetCommitResponse {
    let mut accepted = Vec::new();
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for p in &topic.partitions {
            let topics = &call.inner().topics;
            let outcome = topics
                .partition(&topic.name, p.partition_index)
                .and_then(|_| committed(p.committed_offset, p.committed_leader_epoch, p.committed_metadata.as_ref()));
            let response = OffsetCommitResponsePartition::default()
                .with_partition_index(p.partition_index)
                .with_error_code(code_of(&outcome));
            partitions.push(response);
            if let Ok(offset) = outcome {
                accepted.push((topic.name.to_string(), p.partition_index, offset));
            }
        }
        let response = OffsetCommitResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions);
        topics.push(response);
    }
    let identity = Identity {
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_ref().map(|i| i.to_string()),
        generation: request.generation_id_or_member_epoch,
    };
    let groups = &call.inner().groups;
    if let Err(code) = groups.commit(&request.group_id, &identity, accepted) {
        for partition in topics.iter_mut().flat_map(|t| &mut t.partitions) {
            partition.error_code = code.code();
        }
    }
    OffsetCommitResponse::default().with_topics(topics)
}

/// What one partition is told.
struct Told {
    offset: i64,
    leader_epoch: i32,
    metadata: String,
    error: i16,
}

impl Default for Told {
    fn default() -> Self {
        Self { offset: -1, leader_epoch: -1, metadata: String::new(), error: 0 }
    }
}

/// Tells committed offsets; those that a transaction is about to change are unstable. A group or partition that is named
/// again is answered once.
pub(super) fn fetch(call: &Call<'_>, request: &OffsetFetchRequest) -> OffsetFetchResponse {
    if call.version < FIRST_VERSION_WITH_GROUPS {
        let named = request.topics.as_deref();
        let wanted = named.map(|topics| wanted(topics.iter().map(|t| (&t.name, &t.partition_indexes))));
        return single(&look(call, &request.group_id, wanted, request.require_stable));
    }
    let mut groups = BTreeMap::new();
    for group in &request.groups {
        groups.entry(&group.group_id).or_insert(group);
    }
    let groups = groups.into_iter().map(|(id, group)| {
        let named = group.topics.as_deref();
        let wanted = named.map(|topics| wanted(topics.iter().map(|t| (&t.name, &t.partition_indexes))));
        let found = look(call, id, wanted, request.require_stable);
        OffsetFetchResponseGroup::default().with_group_id(id.clone()).with_topics(several(&found))
    });
    OffsetFetchResponse::default().with_groups(groups.collect())
}

type Wanted = BTreeMap<String, BTreeSet<i32>>;
type Found = BTreeMap<String, Vec<(i32, Told)>>;

fn wanted<'a>(topics: impl Iterator<Item = (&'a TopicName, &'a Vec<i32>)>) -> Wanted {
    let mut wanted = Wanted::new();
    for (name, partitions) in topics {
        wanted.entry(name.to_string()).or_default().extend(partitions);
    }
    wanted
}

/// What is told of a group's partitions.
fn look(call: &Call<'_>, group: &str, wanted: Option<Wanted>, require_stable: bool) -> Found {
    let inner = call.inner();
    let unstable = if require_stable { inner.unstable_offsets(group) } else { BTreeSet::new() };
    let query = wanted.map_or(OffsetsQuery::All, OffsetsQuery::Of);
    let told = |topic: &str, (partition, committed): (i32, Option<CommittedOffset>)| {
        if unstable.contains(&(topic.to_owned(), partition)) {
            return (partition, Told { error: Code::UnstableOffsetCommit.code(), ..Told::default() });
        }
        let told =
            committed.map(|o| Told { offset: o.offset, leader_epoch: o.leader_epoch, metadata: o.metadata, error: 0 });
        (partition, told.unwrap_or_default())
    };
    let of_topic = |(topic, partitions): (String, Vec<(i32, Option<CommittedOffset>)>)| {
        let told = partitions.into_iter().map(|p| told(&topic, p)).collect();
        (topic, told)
    };
    inner.groups.offsets(group, &query).into_iter().map(of_topic).collect()
}

fn single(found: &Found) -> OffsetFetchResponse {
    let topics = found.iter().map(|(name, partitions)| {
        let one = |(index, told): &(i32, Told)| {
            OffsetFetchResponsePartition::default()
                .with_partition_index(*index)
                .with_committed_offset(told.offset)
                .with_committed_leader_epoch(told.leader_epoch)
                .with_metadata(Some(text(told.metadata.as_str())))
                .with_error_code(told.error)
        };
        OffsetFetchResponseTopic::default()
            .with_name(TopicName(text(name.as_str())))
            .with_partitions(partitions.iter().map(one).collect())
    });
    OffsetFetchResponse::default().with_topics(topics.collect())
}

fn several(found: &Found) -> Vec<OffsetFetchResponseTopics> {
    let topics = found.iter().map(|(name, partitions)| {
        let one = |(index, told): &(i32, Told)| {
            OffsetFetchResponsePartitions::default()
                .with_partition_index(*index)
                .with_committed_offset(told.offset)
                .with_committed_leader_epoch(told.leader_epoch)
                .with_metadata(Some(text(told.metadata.as_str())))
                .with_error_code(told.error)
        };
        OffsetFetchResponseTopics::default()
            .with_name(TopicName(text(name.as_str())))
            .with_partitions(partitions.iter().map(one).collect())
    });
    topics.collect()
}

/// Removes offsets of topics that no member of the group reads.
pub(super) fn delete(call: &Call<'_>, request: &OffsetDeleteRequest) -> OffsetDeleteResponse {
    let wanted =
        request.topics.iter().flat_map(|t| t.partitions.iter().map(|p| (t.name.to_string(), p.partition_index)));
    let read = match call.inner().groups.delete_offsets(&request.group_id, wanted.collect()) {
        Ok(read) => read,
        Err(code) => return OffsetDeleteResponse::default().with_error_code(code.code()),
    };
    let topics = request.topics.iter().map(|topic| {
        let code = if read.contains(topic.name.as_str()) { Code::GroupSubscribedToTopic.code() } else { 0 };
        let one = |p: &OffsetDeleteRequestPartition| {
            OffsetDeleteResponsePartition::default().with_partition_index(p.partition_index).with_error_code(code)
        };
        OffsetDeleteResponseTopic::default()
            .with_name(topic.name.clone())
            .with_partitions(topic.partitions.iter().map(one).collect())
    });
    OffsetDeleteResponse::default().with_topics(topics.collect())
}
