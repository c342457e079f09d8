//! Which topics there are, and the bounds of their logs, in few requests for many partitions.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminOptions, ConfigEntry, ConfigSource, ResourceSpecifier},
    consumer::{BaseConsumer, Consumer},
    error::KafkaError,
    metadata::{Metadata, MetadataTopic},
};
use streamward_core::ports::{
    Page,
    topics::{LogBounds, PartitionDetail, TopicConfig, TopicDetail, TopicError, TopicSummary},
};

use super::{
    super::{KafkaSettings, QuietContext, admin::cleanup_policies},
    KafkaTopics,
    cursor::Positions,
    errors::{of_error, unavailable},
    groups,
};

const TIMEOUT: Duration = Duration::from_secs(5);
/// How long the controller may take to make, grow or delete a topic.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(60);

/// Partitions of a topic, with the bounds of those whose leader answers.
pub type KnownBounds = BTreeMap<i32, Option<LogBounds>>;
/// Partitions of topics with their bounds.
type AllBounds = HashMap<String, Vec<LogBounds>>;
/// Offsets by topic and partition.
type Offsets = HashMap<(String, i32), i64>;

/// A client that asks about topics and reads none.
pub struct Catalog {
    consumer: BaseConsumer<QuietContext>,
}

impl Catalog {
    /// A client; it connects when it is first asked.
    ///
    /// # Errors
    /// If a setting is refused.
    pub fn connect(settings: &KafkaSettings) -> Result<Self, KafkaError> {
        let mut config = settings.client("streamward-topics");
        config
            .set("group.id", "streamward-topics")
            .set("enable.auto.commit", "false")
            .set("isolation.level", "read_committed");
        Ok(Self { consumer: config.create_with_context(QuietContext)? })
    }

    /// The client, for questions about groups.
    pub(super) fn consumer(&self) -> &BaseConsumer<QuietContext> {
        &self.consumer
    }

    fn metadata(&self, topic: Option<&str>) -> Result<Metadata, TopicError> {
        self.consumer.fetch_metadata(topic, TIMEOUT).map_err(unavailable)
    }

    /// Every topic's partitions, by name.
    pub fn all(&self) -> Result<Vec<(String, Vec<i32>)>, TopicError> {
        let metadata = self.metadata(None)?;
        let healthy = metadata.topics().iter().filter(|topic| topic.error().is_none());
        let mut topics: Vec<_> = healthy.map(|topic| (topic.name().to_owned(), ids(topic))).collect();
        topics.sort();
        Ok(topics)
    }

    /// The partitions of a topic, ascending.
    pub fn partitions(&self, topic: &str) -> Result<Vec<i32>, TopicError> {
        let metadata = self.metadata(Some(topic))?;
        known(&metadata, topic).map(ids)
    }

    /// Bounds of one topic's partitions.
    pub fn bounds(&self, topic: &str, partitions: &[i32]) -> Result<Vec<LogBounds>, TopicError> {
        let mut all = self.all_bounds(&[(topic.to_owned(), partitions.to_vec())])?;
        Ok(all.remove(topic).unwrap_or_default())
    }

    /// Partitions of a topic and the bounds of those whose leader answers; none where there is no such topic.
    ///
    /// The end is that of a reader of committed records (KIP-98): an open transaction and all behind it is beyond it.
    ///
    /// # Errors
    /// If the cluster does not answer.
    pub fn known_bounds(&self, topic: &str) -> Result<Option<KnownBounds>, TopicError> {
        Ok(self.known_bounds_of([topic])?.pop().flatten())
    }

    /// Likewise of several topics, in their order.
    ///
    /// # Errors
    /// If the cluster does not answer.
    pub fn known_bounds_of<'t>(
        &self,
        topics: impl IntoIterator<Item = &'t str>,
    ) -> Result<Vec<Option<KnownBounds>>, TopicError> {
        let partitions = |topic: &str| match self.partitions(topic) {
            Ok(partitions) => Ok((topic.to_owned(), Some(partitions))),
            Err(TopicError::UnknownTopic(_)) => Ok((topic.to_owned(), None)),
            Err(error) => Err(error),
        };
        let topics = topics.into_iter().map(partitions).collect::<Result<Vec<_>, _>>()?;
        let there: Vec<_> = topics.iter().filter_map(|(topic, ids)| Some((topic.clone(), ids.clone()?))).collect();
        let (starts, ends) = self.starts_and_ends(&there)?;
        let bounds = |topic: &str, partition: i32| {
            let key = (topic.to_owned(), partition);
            let (start, end) = starts.get(&key).zip(ends.get(&key))?;
            Some(LogBounds { partition, start: *start, end: *end })
        };
        let of = |(topic, ids): (String, Option<Vec<i32>>)| {
            Some(ids?.into_iter().map(|partition| (partition, bounds(&topic, partition))).collect())
        };
        Ok(topics.into_iter().map(of).collect())
    }

    /// Of many partitions, with two requests to each broker that leads some.
    fn starts_and_ends(&self, topics: &[(String, Vec<i32>)]) -> Result<(Offsets, Offsets), TopicError> {
        // In a request for offsets by time these two stand for the log's bounds (KIP-79).
        Ok((self.offsets(topics, Offset::Beginning)?, self.offsets(topics, Offset::End)?))
    }

    /// Bounds of many partitions, with two requests to each broker that leads some.
    pub fn all_bounds(&self, topics: &[(String, Vec<i32>)]) -> Result<AllBounds, TopicError> {
        let (starts, ends) = self.starts_and_ends(topics)?;
        let mut bounds = AllBounds::new();
        for (topic, partitions) in topics {
            let bound = |partition: &i32| {
                let key = (topic.clone(), *partition);
                let start = starts.get(&key).copied().unwrap_or(0);
                let end = ends.get(&key).copied().unwrap_or(start).max(start);
                LogBounds { partition: *partition, start, end }
            };
            bounds.insert(topic.clone(), partitions.iter().map(bound).collect());
        }
        Ok(bounds)
    }

    /// Offsets of the first records at or after a time; the end of a log that has none.
    pub fn at_time(&self, topic: &str, bounds: &[LogBounds], time_ms: i64) -> Result<Positions, TopicError> {
        let partitions = bounds.iter().map(|log| log.partition).collect();
        let found = self.offsets(&[(topic.to_owned(), partitions)], Offset::Offset(time_ms.max(0)))?;
        let position = |log: &LogBounds| {
            let offset = found.get(&(topic.to_owned(), log.partition)).copied().unwrap_or(log.end);
            (log.partition, offset.clamp(log.start, log.end))
        };
        Ok(bounds.iter().map(position).collect())
    }

    /// What the brokers answer for a time, or for what stands for a bound; partitions without an answer are left out.
    fn offsets(&self, topics: &[(String, Vec<i32>)], time: Offset) -> Result<Offsets, TopicError> {
        let mut list = TopicPartitionList::new();
        for (topic, partitions) in topics {
            for partition in partitions {
                list.add_partition_offset(topic, *partition, time).map_err(unavailable)?;
            }
        }
        if list.count() == 0 {
            return Ok(HashMap::new());
        }
        let answered = self.consumer.offsets_for_times(list, TIMEOUT).map_err(unavailable)?;
        let answer = |element: &rdkafka::topic_partition_list::TopicPartitionListElem<'_>| match element.offset() {
            Offset::Offset(offset) if element.error().is_ok() => {
                Some(((element.topic().to_owned(), element.partition()), offset))
            }
            _ => None,
        };
        Ok(answered.elements().iter().filter_map(answer).collect())
    }
}

fn known<'m>(metadata: &'m Metadata, name: &str) -> Result<&'m MetadataTopic, TopicError> {
    let found = metadata.topics().iter().find(|topic| topic.name() == name && topic.error().is_none());
    found.filter(|topic| !topic.partitions().is_empty()).ok_or_else(|| TopicError::UnknownTopic(name.to_owned()))
}

fn ids(topic: &MetadataTopic) -> Vec<i32> {
    let mut ids: Vec<i32> = topic.partitions().iter().map(rdkafka::metadata::MetadataPartition::id).collect();
    ids.sort_unstable();
    ids
}

impl KafkaTopics {
    pub(super) async fn list_page(&self, after: Option<String>, limit: u32) -> Result<Page<TopicSummary>, TopicError> {
        let (total, next, mut items) = self
            .blocking(move |shared| {
                let catalog = shared.catalog()?;
                let all = catalog.all()?;
                let first = after.map_or(0, |after| all.partition_point(|(name, _)| *name <= after));
                let page: Vec<_> = all.iter().skip(first).take(limit as usize).cloned().collect();
                let next =
                    (first + page.len() < all.len()).then(|| page.last().map(|(name, _)| name.clone())).flatten();
                let mut bounds = catalog.all_bounds(&page)?;
                let summary = |(name, _): (String, Vec<i32>)| TopicSummary {
                    logs: bounds.remove(&name).unwrap_or_default(),
                    bytes: shared.bytes(&name),
                    cleanup_policy: None,
                    used_by: shared.used_by(&name),
                    name,
                };
                Ok((all.len() as u64, next, page.into_iter().map(summary).collect::<Vec<_>>()))
            })
            .await?;
        let names: Vec<&str> = items.iter().map(|topic| topic.name.as_str()).collect();
        let policies = cleanup_policies(&*self.shared.admin()?, &names, TIMEOUT).await;
        let mut policies = policies.map_err(unavailable)?;
        for topic in &mut items {
            topic.cleanup_policy = policies.remove(&topic.name);
        }
        Ok(Page { items, total, total_is_estimate: false, next })
    }

    /// The settings of a topic as the broker has them.
    pub(super) async fn config_entries(&self, topic: &str) -> Result<Vec<ConfigEntry>, TopicError> {
        let admin = self.shared.admin()?;
        let what = format!("describe topic {topic}");
        let described = admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options()).await;
        let first = described.map_err(|error| of_error(error, topic, &what))?.into_iter().next();
        let resource = first.ok_or_else(|| TopicError::UnknownTopic(topic.to_owned()))?;
        Ok(resource.map_err(|code| super::errors::of_code(code, topic, &what))?.entries)
    }

    pub(super) async fn describe_topic(&self, name: String) -> Result<TopicDetail, TopicError> {
        let topic = name.clone();
        let mut detail = self
            .blocking(move |shared| {
                let catalog = shared.catalog()?;
                let metadata = catalog.metadata(Some(&topic))?;
                let found = known(&metadata, &topic)?;
                let bounds = catalog.bounds(&topic, &ids(found))?;
                let mut partitions: Vec<PartitionDetail> = Vec::with_capacity(bounds.len());
                for log in &bounds {
                    partitions.extend(found.partitions().iter().find(|one| one.id() == log.partition).map(|one| {
                        let leader = (one.leader() >= 0).then(|| one.leader());
                        PartitionDetail {
                            log: *log,
                            leader,
                            replicas: one.replicas().to_vec(),
                            in_sync: one.isr().to_vec(),
                        }
                    }));
                }
                let (groups, groups_not_asked) = groups::of_topic(&shared.settings, &catalog, &topic, &bounds)?;
                let (bytes, used_by) = (shared.bytes(&topic), shared.used_by(&topic));
                Ok(TopicDetail {
                    name: topic,
                    partitions,
                    bytes,
                    configs: Vec::new(),
                    groups,
                    groups_not_asked,
                    used_by,
                })
            })
            .await?;
        let mut configs: Vec<TopicConfig> = self.config_entries(&name).await?.into_iter().map(shown).collect();
        configs.sort_by(|a, b| a.name.cmp(&b.name));
        detail.configs = configs;
        Ok(detail)
    }
}

fn shown(entry: ConfigEntry) -> TopicConfig {
    let source = match entry.source {
        ConfigSource::DynamicTopic => "topic",
        ConfigSource::DynamicBroker | ConfigSource::DynamicDefaultBroker | ConfigSource::StaticBroker => "broker",
        ConfigSource::Default => "default",
        ConfigSource::Unknown => "unknown",
    };
    TopicConfig {
        own: entry.source == ConfigSource::DynamicTopic,
        value: entry.value.filter(|_| !entry.is_sensitive),
        name: entry.name,
        source,
        read_only: entry.is_read_only,
    }
}

/// Bounds of questions to the controller.
pub fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(TIMEOUT)).operation_timeout(Some(TIMEOUT))
}

/// Bounds of changes by the controller: a thousand partitions take their time.
pub fn change_options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(CHANGE_TIMEOUT)).operation_timeout(Some(CHANGE_TIMEOUT))
}
