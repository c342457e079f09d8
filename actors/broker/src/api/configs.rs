//! DescribeConfigs, ListConfigResources, AlterConfigs and IncrementalAlterConfigs: settings of topics, and of the
//! node.

use std::collections::BTreeMap;

use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use kafka_protocol::messages::incremental_alter_configs_request::AlterableConfig;
use kafka_protocol::messages::list_config_resources_response::ConfigResource;
use kafka_protocol::messages::{
    AlterConfigsRequest, AlterConfigsResponse, DescribeConfigsRequest, DescribeConfigsResponse,
    IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse, ListConfigResourcesRequest,
    ListConfigResourcesResponse, alter_configs_response, incremental_alter_configs_response,
};
use kafka_protocol::protocol::StrBytes;

use super::{Call, Mode, NODE, distinct};
use crate::broker::Inner;
use crate::config::BrokerConfig;
use crate::error::{Code, TopicError};
use crate::topic::settings::{self, KEYS, Key};
use crate::wire::text;

const TOPIC: i8 = 2;
const BROKER: i8 = 4;

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    Topic,
    Default,
}

impl Source {
    /// Number of the source in responses (KIP-226).
    pub fn wire(self) -> i8 {
        match self {
            Self::Topic => 1,
            Self::Default => 5,
        }
    }
}

/// A setting as it holds.
pub(super) struct Entry {
    pub key: &'static Key,
    pub value: String,
    pub source: Source,
}

/// All settings of a topic with these entries.
pub(super) fn effective(configs: &BTreeMap<String, String>, config: &BrokerConfig) -> Vec<Entry> {
    let entry = |key: &'static Key| match configs.get(key.name) {
        Some(value) => Entry { key, value: value.clone(), source: Source::Topic },
        None => Entry { key, value: key.effective_default(config), source: Source::Default },
    };
    KEYS.iter().map(entry).collect()
}

/// Tells the settings of topics and of the node.
pub(super) fn describe(call: &Call<'_>, request: &DescribeConfigsRequest) -> DescribeConfigsResponse {
    let one = |resource: &DescribeConfigsResource| {
        let result = DescribeConfigsResult::default()
            .with_resource_type(resource.resource_type)
            .with_resource_name(resource.resource_name.clone());
        let wanted = resource.configuration_keys.as_ref();
        let is_wanted = |name: &str| wanted.is_none_or(|w| w.is_empty() || w.iter().any(|k| &**k == name));
        match entries(call.inner(), resource) {
            Ok(found) => {
                let listed = found.into_iter().filter(|e| is_wanted(&e.name));
                let synonyms = request.include_synonyms;
                let listed = listed.map(|e| if synonyms { e } else { e.with_synonyms(Vec::new()) });
                result.with_configs(listed.collect())
            }
            Err(error) => result.with_error_code(error.code().code()).with_error_message(Some(text(error.to_string()))),
        }
    };
    let resources = distinct(&request.resources, |resource| (resource.resource_type, &resource.resource_name));
    DescribeConfigsResponse::default().with_results(resources.map(one).collect())
}

/// What has settings, by kind (KIP-1142); before version 1 only client metrics are asked for, which there are not.
pub(super) fn list(call: &Call<'_>, request: &ListConfigResourcesRequest) -> ListConfigResourcesResponse {
    const FIRST_VERSION_WITH_KINDS: i16 = 1;
    if call.version < FIRST_VERSION_WITH_KINDS {
        return ListConfigResourcesResponse::default();
    }
    let kinds = &request.resource_types;
    let is_wanted = |kind: i8| kinds.is_empty() || kinds.contains(&kind);
    let resource =
        |kind: i8, name: String| ConfigResource::default().with_resource_type(kind).with_resource_name(text(name));
    let topics = call.inner().topics.all();
    let topics = topics.iter().map(|topic| resource(TOPIC, topic.name.clone()));
    let all = topics.chain([resource(BROKER, NODE.0.to_string())]);
    let wanted = all.filter(|r| is_wanted(r.resource_type));
    ListConfigResourcesResponse::default().with_config_resources(wanted.collect())
}

fn entries(
    broker: &Inner,
    resource: &DescribeConfigsResource,
) -> Result<Vec<DescribeConfigsResourceResult>, TopicError> {
    match resource.resource_type {
        TOPIC => {
            let configs = broker.topics.configs(&resource.resource_name)?;
            let all = effective(&configs, &broker.config);
            Ok(all.into_iter().map(listed).collect())
        }
        BROKER if *resource.resource_name == *NODE.0.to_string() => Ok(of_node(&broker.config)),
        _ => Err(TopicError::Unknown(resource.resource_name.to_string())),
    }
}

fn listed(entry: Entry) -> DescribeConfigsResourceResult {
    let synonym = DescribeConfigsSynonym::default()
        .with_name(text(entry.key.name))
        .with_value(Some(text(entry.value.as_str())))
        .with_source(entry.source.wire());
    DescribeConfigsResourceResult::default()
        .with_name(text(entry.key.name))
        .with_value(Some(text(entry.value)))
        .with_config_source(entry.source.wire())
        .with_config_type(entry.key.kind.wire())
        .with_synonyms(vec![synonym])
}

/// The settings of the node that tools look for; they are fixed while it runs.
fn of_node(config: &BrokerConfig) -> Vec<DescribeConfigsResourceResult> {
    const STATIC_SOURCE: i8 = 4;
    let or_never = |v: Option<i64>| v.unwrap_or(-1).to_string();
    let values = [
        ("auto.create.topics.enable", config.auto_create_topics.to_string()),
        ("broker.id", NODE.0.to_string()),
        ("default.replication.factor", "1".to_owned()),
        ("log.dirs", config.data_dir.display().to_string()),
        ("log.retention.bytes", or_never(config.default_retention_bytes)),
        ("log.retention.ms", or_never(config.default_retention_ms)),
        ("log.segment.bytes", config.segment_bytes.to_string()),
        ("message.max.bytes", settings::default_of("max.message.bytes", config)),
        ("max.connections", config.max_connections.to_string()),
        ("min.insync.replicas", "1".to_owned()),
        ("num.partitions", config.default_partitions.to_string()),
        ("socket.request.max.bytes", config.max_request_bytes.to_string()),
    ];
    let entry = |(name, value): (&'static str, String)| {
        DescribeConfigsResourceResult::default()
            .with_name(text(name))
            .with_value(Some(text(value)))
            .with_read_only(true)
            .with_config_source(STATIC_SOURCE)
    };
    values.into_iter().map(entry).collect()
}

/// Replaces or edits a topic's entries by a function; the code and words of a refusal.
async fn change(
    call: &Call<'_>,
    resource: (i8, StrBytes),
    mode: Mode,
    edit: impl FnOnce(&mut BTreeMap<String, String>, &BrokerConfig) -> Result<(), TopicError> + Send + 'static,
) -> (i16, Option<StrBytes>) {
    let (kind, name) = resource;
    if kind != TOPIC {
        let words = "only topics can be configured while the broker runs";
        return (Code::InvalidRequest.code(), Some(text(words)));
    }
    let work = move |broker: &Inner| {
        let _one_at_a_time = broker.configuring.lock();
        let mut configs = broker.topics.configs(&name)?;
        edit(&mut configs, &broker.config)?;
        match mode {
            Mode::Check => settings::check(&configs, &broker.config),
            Mode::Apply => broker.topics.configure(&name, configs),
        }
    };
    match call.blocking(work).await {
        Ok(Ok(())) => (0, None),
        Ok(Err(error)) => (error.code().code(), Some(text(error.to_string()))),
        Err(code) => (code.code(), None),
    }
}

/// Replaces all entries of topics.
pub(super) async fn alter(call: &Call<'_>, request: AlterConfigsRequest) -> AlterConfigsResponse {
    let mode = Mode::of(request.validate_only);
    let mut responses = Vec::with_capacity(request.resources.len());
    for r in request.resources {
        let entries: BTreeMap<String, String> =
            r.configs.iter().filter_map(|c| Some((c.name.to_string(), c.value.as_ref()?.to_string()))).collect();
        let replace = move |configs: &mut BTreeMap<_, _>, _: &BrokerConfig| {
            *configs = entries;
            Ok(())
        };
        let resource = (r.resource_type, r.resource_name.clone());
        let (code, words) = change(call, resource, mode, replace).await;
        let response = alter_configs_response::AlterConfigsResourceResponse::default()
            .with_resource_type(r.resource_type)
            .with_resource_name(r.resource_name)
            .with_error_code(code)
            .with_error_message(words);
        responses.push(response);
    }
    AlterConfigsResponse::default().with_responses(responses)
}

/// Edits single entries of topics.
pub(super) async fn alter_incrementally(
    call: &Call<'_>,
    request: IncrementalAlterConfigsRequest,
) -> IncrementalAlterConfigsResponse {
    let mode = Mode::of(request.validate_only);
    let mut responses = Vec::with_capacity(request.resources.len());
    for r in request.resources {
        let edits = r.configs;
        let apply = move |configs: &mut BTreeMap<String, String>, config: &BrokerConfig| {
            edits.iter().try_for_each(|e| edit(configs, e, config))
        };
        let resource = (r.resource_type, r.resource_name.clone());
        let (code, words) = change(call, resource, mode, apply).await;
        let response = incremental_alter_configs_response::AlterConfigsResourceResponse::default()
            .with_resource_type(r.resource_type)
            .with_resource_name(r.resource_name)
            .with_error_code(code)
            .with_error_message(words);
        responses.push(response);
    }
    IncrementalAlterConfigsResponse::default().with_responses(responses)
}

/// Applies one operation of KIP-339: set, delete, append to or subtract from a list.
fn edit(
    configs: &mut BTreeMap<String, String>,
    wanted: &AlterableConfig,
    config: &BrokerConfig,
) -> Result<(), TopicError> {
    const SET: i8 = 0;
    const DELETE: i8 = 1;
    const APPEND: i8 = 2;
    const SUBTRACT: i8 = 3;
    let name = wanted.name.to_string();
    let invalid = |reason: &str| TopicError::InvalidConfig { key: wanted.name.to_string(), reason: reason.to_owned() };
    let key = settings::key(&name).ok_or_else(|| invalid("is not known"))?;
    let value = wanted.value.as_ref().map(|v| v.to_string());
    if wanted.config_operation == DELETE {
        configs.remove(&name);
        return Ok(());
    }
    let value = value.ok_or_else(|| invalid("has no value"))?;
    if wanted.config_operation == SET {
        configs.insert(name, value);
        return Ok(());
    }
    if key.kind != settings::Kind::List {
        return Err(invalid("is no list"));
    }
    let now = configs.get(&name).cloned();
    let now = now.unwrap_or_else(|| key.effective_default(config));
    let mut words: Vec<&str> = now.split(',').map(str::trim).collect();
    let named: Vec<&str> = value.split(',').map(str::trim).collect();
    words.retain(|w| !w.is_empty() && !named.contains(w));
    match wanted.config_operation {
        APPEND => words.extend(named),
        SUBTRACT => {}
        _ => return Err(invalid("operation is not known")),
    }
    configs.insert(name, words.join(","));
    Ok(())
}
