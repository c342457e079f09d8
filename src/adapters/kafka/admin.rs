//! Topics and log bounds.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    time::Duration,
};

use rdkafka::{
    admin::{
        AdminClient, AdminOptions, ConfigResource, NewTopic, OwnedResourceSpecifier, ResourceSpecifier,
        TopicReplication,
    },
    consumer::{BaseConsumer, Consumer},
    error::{KafkaError, RDKafkaErrorCode},
    topic_partition_list::{Offset, TopicPartitionList},
};

use streamward_pipeline::logs::LogIdentity;

use super::{KafkaSettings, QuietContext, ffi};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A topic that Streamward makes when it is missing.
#[derive(Debug, Clone)]
pub struct TopicSpec {
    pub name: String,
    pub partitions: i32,
    /// Topic configuration, such as `retention.ms`.
    pub configs: Vec<(String, String)>,
}

/// What is to be known of a topic that was there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFound {
    pub partitions: usize,
    /// Its configuration; empty where the cluster does not tell.
    pub configs: HashMap<String, String>,
}

/// Creates the topics that do not exist. Answers those that did, as they are: they keep their settings.
///
/// # Errors
/// If the cluster does not answer or refuses.
pub async fn ensure_topics(
    settings: &KafkaSettings,
    topics: &[TopicSpec],
) -> Result<BTreeMap<String, TopicFound>, KafkaError> {
    let admin: AdminClient<QuietContext> = settings.client("streamward-admin").create_with_context(QuietContext)?;
    let new: Vec<NewTopic<'_>> = topics
        .iter()
        .map(|topic| {
            let new = NewTopic::new(&topic.name, topic.partitions, TopicReplication::Fixed(-1));
            topic.configs.iter().fold(new, |new, (key, value)| new.set(key, value))
        })
        .collect();
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
    let mut found = Vec::new();
    for result in admin.create_topics(&new, &options).await? {
        match result {
            Ok(_) => {}
            Err((topic, RDKafkaErrorCode::TopicAlreadyExists)) => found.push(topic),
            Err((topic, code)) => {
                tracing::error!(topic, %code, "create topic");
                return Err(KafkaError::AdminOp(code));
            }
        }
    }
    as_they_are(&admin, &found).await
}

async fn as_they_are(
    admin: &AdminClient<QuietContext>,
    topics: &[String],
) -> Result<BTreeMap<String, TopicFound>, KafkaError> {
    if topics.is_empty() {
        return Ok(BTreeMap::new());
    }
    let names: Vec<&str> = topics.iter().map(String::as_str).collect();
    let mut configs = configs(admin, &names, TIMEOUT).await?;
    // Of all topics: to ask for one by name may make it.
    let metadata = admin.inner().fetch_metadata(None, TIMEOUT)?;
    let known = metadata.topics().iter().filter(|topic| topics.iter().any(|name| name == topic.name()));
    let found = known.map(|topic| {
        let configs = configs.remove(topic.name()).unwrap_or_default();
        (topic.name().to_owned(), TopicFound { partitions: topic.partitions().len(), configs })
    });
    Ok(found.collect())
}

/// Deletes the topics that exist.
///
/// # Errors
/// If the cluster does not answer or refuses.
pub async fn delete_topics(settings: &KafkaSettings, topics: &[&str]) -> Result<(), KafkaError> {
    let admin: AdminClient<QuietContext> = settings.client("streamward-admin").create_with_context(QuietContext)?;
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
    for result in admin.delete_topics(topics, &options).await? {
        match result {
            Ok(_) | Err((_, RDKafkaErrorCode::UnknownTopicOrPartition)) => {}
            Err((_, code)) => return Err(KafkaError::AdminOp(code)),
        }
    }
    Ok(())
}

/// Deletes the records of a partition below an offset.
///
/// # Errors
/// If the cluster does not answer or refuses.
pub async fn delete_records(
    settings: &KafkaSettings,
    topic: &str,
    (partition, below): (i32, i64),
) -> Result<(), KafkaError> {
    let admin: AdminClient<QuietContext> = settings.client("streamward-admin").create_with_context(QuietContext)?;
    let options = AdminOptions::new().operation_timeout(Some(TIMEOUT)).request_timeout(Some(TIMEOUT));
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(topic, partition, Offset::Offset(below))?;
    let deleted = admin.delete_records(&list, &options).await?;
    deleted.elements().iter().try_for_each(|element| element.error())
}

/// The clean-up policy of each topic that the cluster tells about.
///
/// # Errors
/// If the cluster does not answer.
pub(super) async fn cleanup_policies(
    admin: &AdminClient<QuietContext>,
    topics: &[&str],
    timeout: Duration,
) -> Result<HashMap<String, String>, KafkaError> {
    if topics.is_empty() {
        return Ok(HashMap::new());
    }
    let configs = configs(admin, topics, timeout).await?;
    let policy =
        |(name, mut configs): (String, HashMap<String, String>)| Some((name, configs.remove("cleanup.policy")?));
    Ok(configs.into_iter().filter_map(policy).collect())
}

/// The configuration of each topic that the cluster tells about.
async fn configs(
    admin: &AdminClient<QuietContext>,
    topics: &[&str],
    timeout: Duration,
) -> Result<HashMap<String, HashMap<String, String>>, KafkaError> {
    let resources: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
    let options = AdminOptions::new().request_timeout(Some(timeout));
    let of_topic = |resource: ConfigResource| match resource.specifier {
        OwnedResourceSpecifier::Topic(name) => {
            let entries = resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?)));
            Some((name, entries.collect()))
        }
        OwnedResourceSpecifier::Group(_) | OwnedResourceSpecifier::Broker(_) => None,
    };
    let described = admin.describe_configs(&resources, &options).await?;
    Ok(described.into_iter().filter_map(Result::ok).filter_map(of_topic).collect())
}

/// Whether a `cleanup.policy`, a list, names this way of cleaning up.
pub(super) fn cleans_up_by(policy: &str, way: &str) -> bool {
    policy.split(',').any(|word| word.trim() == way)
}

/// Those of `topics` from which the cluster removes records that newer ones of their key replace.
///
/// # Errors
/// If the cluster does not answer.
pub async fn compacted_topics(settings: &KafkaSettings, topics: &[&str]) -> Result<BTreeSet<String>, KafkaError> {
    let admin = settings.client("streamward-admin").create_with_context(QuietContext)?;
    let policies = cleanup_policies(&admin, topics, TIMEOUT).await?;
    let compacted = policies.into_iter().filter(|(_, policy)| cleans_up_by(policy, "compact"));
    Ok(compacted.map(|(topic, _)| topic).collect())
}

/// Reads the bounds of logs; keeps one connection.
pub struct LogInspector {
    consumer: BaseConsumer<QuietContext>,
}

impl LogInspector {
    /// A client that reads bounds and metadata.
    ///
    /// # Errors
    /// If a setting is refused.
    pub fn connect(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        let mut config = settings.client("streamward-inspector");
        config.set("group.id", "streamward-inspector").set("enable.auto.commit", "false");
        // A scan ends where the log does, also where its last offsets hold no record.
        config.set("enable.partition.eof", "true");
        Ok(Self { consumer: config.create_with_context(QuietContext)? })
    }

    /// Oldest offset held, and the offset that the next record will get.
    ///
    /// # Errors
    /// If the cluster does not answer.
    pub fn bounds(&self, topic: &str, partition: i32, timeout: Duration) -> Result<(i64, i64), KafkaError> {
        self.consumer.fetch_watermarks(topic, partition, timeout)
    }

    /// Number of partitions of a topic.
    ///
    /// # Errors
    /// If the cluster does not answer.
    pub fn partitions(&self, topic: &str, timeout: Duration) -> Result<usize, KafkaError> {
        let metadata = self.consumer.fetch_metadata(Some(topic), timeout)?;
        Ok(metadata.topics().first().map_or(0, |topic| topic.partitions().len()))
    }

    /// The cluster's id; empty where it has none.
    pub fn cluster_id(&self, timeout: Duration) -> String {
        self.consumer.client().fetch_cluster_id(timeout).unwrap_or_default()
    }

    /// Which log each of `topics` is, in their order; `None` where there is no such topic.
    ///
    /// # Errors
    /// If the cluster does not answer, or tells neither an id of the topic nor one of its own.
    pub fn logs(&self, topics: &[&str], timeout: Duration) -> Result<Vec<Option<LogIdentity>>, KafkaError> {
        let client = self.consumer.client();
        let ids = ffi::topic_ids(client, topics, timeout)?;
        // The client remembers it: nothing is asked again.
        let cluster_id = self.cluster_id(timeout);
        if cluster_id.is_empty() && ids.iter().flatten().any(uuid::Uuid::is_nil) {
            return Err(KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut));
        }
        let identity = |id: uuid::Uuid| LogIdentity {
            cluster_id: cluster_id.clone(),
            topic_id: if id.is_nil() { String::new() } else { id.to_string() },
        };
        Ok(ids.into_iter().map(|id| id.map(identity)).collect())
    }

    /// Visits every record of `[from, to)` in order; used by `verify`.
    ///
    /// # Errors
    /// If the cluster does not answer for [`TIMEOUT`].
    pub fn scan(
        &self,
        topic: &str,
        partition: i32,
        range: std::ops::Range<i64>,
        visit: &mut dyn FnMut(i64),
    ) -> Result<(), KafkaError> {
        use rdkafka::Message;
        if range.is_empty() {
            return Ok(());
        }
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(range.start))?;
        self.consumer.assign(&list)?;
        loop {
            match self.consumer.poll(TIMEOUT) {
                Some(Ok(message)) if message.offset() >= range.end => break,
                Some(Ok(message)) => {
                    visit(message.offset());
                    if message.offset() + 1 >= range.end {
                        break;
                    }
                }
                Some(Err(KafkaError::PartitionEOF(_))) => break,
                Some(Err(error)) => return Err(error),
                None => return Err(KafkaError::MessageConsumption(RDKafkaErrorCode::OperationTimedOut)),
            }
        }
        self.consumer.unassign()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::kafka::{producer::BulkProducer, served::Served};

    #[actix_rt::test]
    async fn records_below_an_offset_are_deleted_and_those_from_it_on_stay() {
        let served = Served::new();
        let topic = TopicSpec { name: "holed".to_owned(), partitions: 1, configs: Vec::new() };
        ensure_topics(&served.settings, &[topic]).await.unwrap();
        let producer = BulkProducer::create(&served.settings, "test").unwrap();
        (0..10).for_each(|_| producer.send("holed", b"key", b"value").unwrap());
        producer.flush(TIMEOUT).unwrap();
        delete_records(&served.settings, "holed", (0, 7)).await.unwrap();
        let inspector = LogInspector::connect(&served.settings).unwrap();
        assert_eq!(inspector.bounds("holed", 0, TIMEOUT).unwrap(), (7, 10));
        let refused = delete_records(&served.settings, "holed", (0, 11)).await;
        assert!(refused.is_err(), "an offset that the log does not have");
    }
}
