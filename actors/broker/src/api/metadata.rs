//! Metadata: the node, the topics, and the creation of topics that a client names first.

use std::collections::BTreeMap;
use std::sync::Arc;

use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{MetadataRequest, MetadataResponse, TopicName};

use super::{Call, NODE, OPERATIONS_NOT_TOLD, distinct};
use crate::error::{Code, KResult, TopicError};
use crate::topic::Topic;
use crate::wire::text;

/// First version in which the client decides about auto-creation.
const FIRST_VERSION_WITH_CONSENT: i16 = 4;

/// First version in which a topic that is asked for by id may have no name.
const FIRST_VERSION_WITHOUT_NAME: i16 = 12;

/// What happens to a topic that does not exist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UnknownTopic {
    Create,
    Refuse,
}

/// Describes the cluster and topics.
pub(super) async fn metadata(call: &Call<'_>, request: MetadataRequest) -> MetadataResponse {
    let consents = call.version < FIRST_VERSION_WITH_CONSENT || request.allow_auto_topic_creation;
    let unknown =
        if consents && call.inner().config.auto_create_topics { UnknownTopic::Create } else { UnknownTopic::Refuse };
    // In version 0 an empty list means all topics.
    let named = request.topics.filter(|t| call.version > 0 || !t.is_empty());
    let topics = match named {
        None => call.inner().topics.all().iter().map(described).collect(),
        Some(named) => {
            let mut topics = Vec::new();
            for wanted in distinct(&named, |wanted| (wanted.topic_id, name_of(wanted))) {
                topics.push(one(call, wanted, unknown).await);
            }
            topics
        }
    };
    let node = MetadataResponseBroker::default()
        .with_node_id(NODE)
        .with_host(text(call.client.broker_host.as_str()))
        .with_port(call.client.broker_port);
    MetadataResponse::default()
        .with_brokers(vec![node])
        .with_cluster_id(Some(text(call.broker.cluster_id())))
        .with_controller_id(NODE)
        .with_cluster_authorized_operations(OPERATIONS_NOT_TOLD)
        .with_topics(topics)
}

/// The name that a topic is asked for by; a client that asks by id may give an empty one.
fn name_of(wanted: &MetadataRequestTopic) -> Option<&TopicName> {
    wanted.name.as_ref().filter(|_| wanted.topic_id.is_nil())
}

async fn one(call: &Call<'_>, wanted: &MetadataRequestTopic, unknown: UnknownTopic) -> MetadataResponseTopic {
    let Some(name) = name_of(wanted) else {
        return match call.inner().topics.get_by_id(wanted.topic_id) {
            Some(topic) => described(&topic),
            None => MetadataResponseTopic::default()
                .with_name((call.version < FIRST_VERSION_WITHOUT_NAME).then(TopicName::default))
                .with_topic_id(wanted.topic_id)
                .with_topic_authorized_operations(OPERATIONS_NOT_TOLD)
                .with_error_code(Code::UnknownTopicId.code()),
        };
    };
    let found = match call.inner().topics.get(name) {
        Some(topic) => Ok(topic),
        None if unknown == UnknownTopic::Create => create(call, name).await,
        None => Err(Code::UnknownTopicOrPartition),
    };
    match found {
        Ok(topic) => described(&topic),
        Err(code) => MetadataResponseTopic::default()
            .with_name(Some(name.clone()))
            .with_topic_authorized_operations(OPERATIONS_NOT_TOLD)
            .with_error_code(code.code()),
    }
}

async fn create(call: &Call<'_>, name: &TopicName) -> KResult<Arc<Topic>> {
    let name = name.to_string();
    let created = call.blocking(move |broker| {
        let partitions = broker.config.default_partitions;
        let created = broker.topics.create(&name, partitions, BTreeMap::new());
        match (created, broker.topics.get(&name)) {
            (Err(TopicError::Exists(_)), Some(topic)) => Ok(topic),
            (created, _) => created,
        }
    });
    created.await?.map_err(|e| e.code())
}

fn described(topic: &Arc<Topic>) -> MetadataResponseTopic {
    let partition = |index| {
        MetadataResponsePartition::default()
            .with_partition_index(index)
            .with_leader_id(NODE)
            .with_leader_epoch(-1)
            .with_replica_nodes(vec![NODE])
            .with_isr_nodes(vec![NODE])
    };
    MetadataResponseTopic::default()
        .with_name(Some(TopicName(text(topic.name.as_str()))))
        .with_topic_id(topic.id)
        .with_topic_authorized_operations(OPERATIONS_NOT_TOLD)
        .with_partitions((0..topic.partition_count()).map(partition).collect())
}
