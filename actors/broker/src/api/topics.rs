//! CreateTopics, DeleteTopics and CreatePartitions.

use std::collections::BTreeMap;

use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use kafka_protocol::messages::create_topics_request::CreatableTopic;
use kafka_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::delete_topics_response::DeletableTopicResult;
use kafka_protocol::messages::{
    CreatePartitionsRequest, CreatePartitionsResponse, CreateTopicsRequest, CreateTopicsResponse, DeleteTopicsRequest,
    DeleteTopicsResponse, TopicName,
};

use super::configs::{Source, effective};
use super::{Call, Mode, NODE};
use crate::broker::Inner;
use crate::error::{Code, TopicError};
use crate::wire::text;

/// First version of DeleteTopics that names topics by name or id.
const FIRST_VERSION_WITH_IDS: i16 = 6;
/// The partition count or replication factor that means the broker's default (KIP-464).
const DEFAULT_COUNT: i32 = -1;
/// Topics that one request may create; more are refused.
const MAX_TOPICS_PER_REQUEST: usize = 1_000;

/// A code and the words that explain it.
type Refused = (Code, Option<String>);

fn explained(error: &TopicError) -> Refused {
    (error.code(), Some(error.to_string()))
}

/// Creates topics, or only checks whether they could be.
pub(super) async fn create(call: &Call<'_>, request: CreateTopicsRequest) -> CreateTopicsResponse {
    let mode = Mode::of(request.validate_only);
    let mut results = Vec::with_capacity(request.topics.len());
    for (n, topic) in request.topics.into_iter().enumerate() {
        let name = topic.name.clone();
        let work = move |broker: &Inner| create_one(broker, &topic, mode);
        let outcome = if n < MAX_TOPICS_PER_REQUEST {
            call.blocking(work).await.unwrap_or_else(|code| Err((code, None)))
        } else {
            Err((Code::PolicyViolation, Some(format!("more than {MAX_TOPICS_PER_REQUEST} topics in one request"))))
        };
        results.push(match outcome {
            Ok(result) => result,
            Err((code, message)) => CreatableTopicResult::default()
                .with_name(name)
                .with_error_code(code.code())
                .with_error_message(message.map(text)),
        });
    }
    CreateTopicsResponse::default().with_topics(results)
}

/// The partition count that a request asks for.
fn partitions_of(broker: &Inner, topic: &CreatableTopic) -> Result<i32, Refused> {
    if topic.assignments.is_empty() {
        if !matches!(topic.replication_factor, -1 | 1) {
            let message = "one node keeps one replica".to_owned();
            return Err((Code::InvalidReplicationFactor, Some(message)));
        }
        return Ok(match topic.num_partitions {
            DEFAULT_COUNT => broker.config.default_partitions,
            count => count,
        });
    }
    let mut indexes: Vec<i32> = topic.assignments.iter().map(|a| a.partition_index).collect();
    indexes.sort_unstable();
    let is_consecutive = indexes.iter().zip(0..).all(|(index, n)| *index == n);
    let is_here = topic.assignments.iter().all(|a| a.broker_ids == [NODE]);
    if is_consecutive && is_here {
        Ok(i32::try_from(indexes.len()).unwrap_or(i32::MAX))
    } else {
        Err((Code::InvalidReplicaAssignment, None))
    }
}

fn create_one(broker: &Inner, topic: &CreatableTopic, mode: Mode) -> Result<CreatableTopicResult, Refused> {
    let count = partitions_of(broker, topic)?;
    let mut configs = BTreeMap::new();
    for entry in &topic.configs {
        if let Some(value) = &entry.value {
            configs.insert(entry.name.to_string(), value.to_string());
        }
    }
    let entries = effective(&configs, &broker.config).into_iter().map(|entry| {
        CreatableTopicConfigs::default()
            .with_name(text(entry.key.name))
            .with_value(Some(text(entry.value)))
            .with_config_source(Source::wire(entry.source))
    });
    let result = CreatableTopicResult::default()
        .with_name(topic.name.clone())
        .with_num_partitions(count)
        .with_replication_factor(1)
        .with_configs(Some(entries.collect()));
    if mode == Mode::Check {
        let check = broker.topics.check_new(&topic.name, count, &configs);
        return check.map(|()| result).map_err(|e| explained(&e));
    }
    match broker.topics.create(&topic.name, count, configs) {
        Ok(created) => Ok(result.with_topic_id(created.id)),
        Err(error) => Err(explained(&error)),
    }
}

/// Removes topics with their records.
pub(super) async fn delete(call: &Call<'_>, request: DeleteTopicsRequest) -> DeleteTopicsResponse {
    let by_name = |name: TopicName| DeleteTopicState::default().with_name(Some(name));
    let wanted = if call.version < FIRST_VERSION_WITH_IDS {
        request.topic_names.into_iter().map(by_name).collect()
    } else {
        request.topics
    };
    let mut results = Vec::with_capacity(wanted.len());
    for topic in wanted {
        results.push(delete_one(call, topic).await);
    }
    DeleteTopicsResponse::default().with_responses(results)
}

async fn delete_one(call: &Call<'_>, wanted: DeleteTopicState) -> DeletableTopicResult {
    let topics = &call.inner().topics;
    let (found, unknown) = match &wanted.name {
        Some(name) => (topics.get(name), Code::UnknownTopicOrPartition),
        None => (topics.get_by_id(wanted.topic_id), Code::UnknownTopicId),
    };
    let result = DeletableTopicResult::default().with_name(wanted.name).with_topic_id(wanted.topic_id);
    let Some(topic) = found else {
        return result.with_error_code(unknown.code());
    };
    let result = result.with_name(Some(TopicName(text(topic.name.as_str())))).with_topic_id(topic.id);
    let work = move |broker: &Inner| broker.topics.delete(&topic.name);
    match call.blocking(work).await {
        Ok(Ok(())) => result,
        Ok(Err(error)) => result.with_error_code(error.code().code()).with_error_message(Some(text(error.to_string()))),
        Err(code) => result.with_error_code(code.code()),
    }
}

/// Adds partitions to topics, or only checks whether they could be added.
pub(super) async fn create_partitions(call: &Call<'_>, request: CreatePartitionsRequest) -> CreatePartitionsResponse {
    let mode = Mode::of(request.validate_only);
    let mut results = Vec::with_capacity(request.topics.len());
    for topic in request.topics {
        let name = topic.name.clone();
        let work = move |broker: &Inner| grow(broker, &topic, mode);
        let outcome = call.blocking(work).await;
        let refused = match outcome {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(explained(&error)),
            Err(code) => Some((code, None)),
        };
        let result = CreatePartitionsTopicResult::default().with_name(name);
        results.push(match refused {
            None => result,
            Some((code, message)) => result.with_error_code(code.code()).with_error_message(message.map(text)),
        });
    }
    CreatePartitionsResponse::default().with_results(results)
}

fn grow(broker: &Inner, wanted: &CreatePartitionsTopic, mode: Mode) -> Result<(), TopicError> {
    if mode == Mode::Apply {
        return broker.topics.grow(&wanted.name, wanted.count);
    }
    let topic = broker.topics.get(&wanted.name);
    let topic = topic.ok_or_else(|| TopicError::Unknown(wanted.name.to_string()))?;
    let now = topic.partition_count();
    broker.topics.check_count(&wanted.name, now, wanted.count)
}
