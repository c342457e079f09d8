//! Creates, alters and deletes topics, and writes single records.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::admin::{
    AlterConfig, ConfigEntry, ConfigSource, NewPartitions, NewTopic as New, ResourceSpecifier, TopicReplication,
};
use streamward_core::ports::{
    Placed,
    topics::{Deletion, NewTopic, RecordToWrite, TopicChange, TopicError, TopicUse},
};

use tokio::time::Instant;

use super::{
    KafkaTopics,
    catalog::{change_options, options},
    errors::{of_code, of_error},
};
use crate::adapters::kafka::producer::{Outgoing, ProduceError};

/// How long a change of settings may take until every broker shows it.
const SEEN_WITHIN: Duration = Duration::from_secs(2);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The topic's own settings.
fn own(entries: Vec<ConfigEntry>) -> BTreeMap<String, String> {
    let own = entries.into_iter().filter(|entry| entry.source == ConfigSource::DynamicTopic);
    own.filter_map(|entry| Some((entry.name, entry.value?))).collect()
}

/// What to say where the broker refuses these changes: it says neither which nor why, but the present values tell what
/// a setting can be.
fn refusal(entries: &[ConfigEntry], changes: &[(String, Option<String>)]) -> String {
    let wrong = |(name, value): &(String, Option<String>)| {
        let (value, entry) = (value.as_ref()?, entries.iter().find(|entry| entry.name == *name)?);
        let present = entry.value.as_deref().unwrap_or_default();
        let is_whole = |text: &str| text.parse::<i64>().is_ok();
        let is_truth = |text: &str| matches!(text, "true" | "false");
        let kind = match (is_whole(present), is_truth(present)) {
            (true, _) if !is_whole(value) => "not a whole number",
            (_, true) if !is_truth(value) => "neither true nor false",
            _ => return None,
        };
        Some(format!("{name}: '{value}' is {kind}; it is {present}"))
    };
    let wrongs: Vec<String> = changes.iter().filter_map(wrong).collect();
    if !wrongs.is_empty() {
        return wrongs.join("; ");
    }
    let set = changes.iter().filter_map(|(name, value)| Some(format!("{name}={}", value.as_ref()?)));
    format!("the broker refuses {}", set.collect::<Vec<_>>().join(" or "))
}

impl KafkaTopics {
    pub(super) async fn create_topic(&self, topic: NewTopic) -> Result<u32, TopicError> {
        let what = format!("create topic {}", topic.name);
        let topic = self.shared.completed(topic);
        self.answers(&topic.name).await?;
        self.shared.has_room_for(usize::try_from(topic.partitions).unwrap_or_default(), &what)?;
        let new = New::new(&topic.name, topic.partitions, TopicReplication::Fixed(-1));
        let new = topic.configs.iter().fold(new, |new, (name, value)| new.set(name, value));
        let admin = self.shared.admin()?;
        let created = admin.create_topics(&[new], &change_options()).await;
        for result in created.map_err(|error| of_error(error, &topic.name, &what))? {
            result.map_err(|(_, code)| of_code(code, &topic.name, &what))?;
        }
        self.await_leaders(&topic.name, usize::try_from(topic.partitions).unwrap_or_default()).await?;
        Ok(u32::try_from(topic.partitions).unwrap_or_default())
    }

    /// The numbers of a topic's partitions.
    async fn partitions(&self, topic: &str) -> Result<Vec<i32>, TopicError> {
        let topic = topic.to_owned();
        self.blocking(move |shared| shared.catalog()?.partitions(&topic)).await
    }

    /// A broker that does not answer is known long before a change is given up.
    async fn answers(&self, topic: &str) -> Result<(), TopicError> {
        match self.partitions(topic).await {
            Ok(_) | Err(TopicError::UnknownTopic(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Waits until every partition has a leader that answers: a cluster elects them behind its answer, and whoever asks
    /// about the topic before is told that it is not there. Where that takes long the next question says so.
    async fn await_leaders(&self, topic: &str, partitions: usize) -> Result<(), TopicError> {
        let until = Instant::now() + SEEN_WITHIN;
        loop {
            let name = topic.to_owned();
            let known = self.blocking(move |shared| shared.catalog()?.known_bounds(&name)).await;
            let answering = known.ok().flatten().map_or(0, |logs| logs.values().flatten().count());
            if answering >= partitions || Instant::now() >= until {
                return Ok(());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Settings come first, for they can be changed back; a number of partitions that cannot be is refused before.
    pub(super) async fn alter_topic(&self, topic: String, change: TopicChange) -> Result<(), TopicError> {
        let wanted = match change.partitions {
            Some(partitions) => self.grown(&topic, partitions as usize).await?,
            None => None,
        };
        if !change.configs.is_empty() {
            self.change_configs(&topic, change.configs).await?;
        }
        match wanted {
            Some(wanted) => self.add_partitions(&topic, wanted).await,
            None => Ok(()),
        }
    }

    /// The number of partitions to grow to; none if the topic has as many.
    async fn grown(&self, topic: &str, wanted: usize) -> Result<Option<usize>, TopicError> {
        let present = self.partitions(topic).await?.len();
        if wanted < present {
            let reason = format!("topic {topic} has {present} and partitions are never taken away");
            return Err(TopicError::Invalid { field: "partitions", reason });
        }
        self.shared.has_room_for(wanted - present, &format!("add partitions to topic {topic}"))?;
        Ok((wanted > present).then_some(wanted))
    }

    async fn add_partitions(&self, topic: &str, wanted: usize) -> Result<(), TopicError> {
        let what = format!("add partitions to topic {topic}");
        let admin = self.shared.admin()?;
        let created = admin.create_partitions(&[NewPartitions::new(topic, wanted)], &change_options()).await;
        for result in created.map_err(|error| of_error(error, topic, &what))? {
            result.map_err(|(_, code)| of_code(code, topic, &what))?;
        }
        self.await_leaders(topic, wanted).await
    }

    /// The request replaces all settings of the topic's own, so those that stay are given again. Another client's change
    /// at the same moment may be lost.
    async fn change_configs(&self, topic: &str, changes: Vec<(String, Option<String>)>) -> Result<(), TopicError> {
        let entries = self.config_entries(topic).await?;
        let unknown = changes.iter().find(|(name, _)| !entries.iter().any(|entry| entry.name == *name));
        if let Some((name, _)) = unknown {
            return Err(TopicError::Invalid { field: "configs", reason: format!("the broker knows no {name}") });
        }
        let refusal = refusal(&entries, &changes);
        let before = own(entries);
        let mut wanted = before.clone();
        for (name, value) in changes {
            match value {
                Some(value) => wanted.insert(name, value),
                None => wanted.remove(&name),
            };
        }
        if wanted == before {
            return Ok(());
        }
        let whole = AlterConfig::new(ResourceSpecifier::Topic(topic));
        let whole = wanted.iter().fold(whole, |whole, (name, value)| whole.set(name, value));
        let what = format!("change topic {topic}");
        let admin = self.shared.admin()?;
        let altered = admin.alter_configs(&[whole], &options()).await;
        for result in altered.map_err(|error| of_error(error, topic, &what))? {
            result.map_err(|(_, code)| of_code(code, topic, &what))?;
        }
        self.await_change(topic, &before, refusal).await
    }

    /// The client library does not tell that the broker refused the values; a topic that stays as it was does.
    async fn await_change(
        &self,
        topic: &str,
        before: &BTreeMap<String, String>,
        reason: String,
    ) -> Result<(), TopicError> {
        let until = Instant::now() + SEEN_WITHIN;
        while own(self.config_entries(topic).await?) == *before {
            if Instant::now() >= until {
                return Err(TopicError::Invalid { field: "configs", reason });
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(())
    }

    pub(super) async fn delete_topic(&self, topic: String, deletion: Deletion) -> Result<(), TopicError> {
        let reason = match (self.shared.used_by(&topic), deletion) {
            (Some(TopicUse::Stream(stream)), Deletion::Guarded) => Some(format!("the stream {stream} reads it")),
            (Some(TopicUse::Own(what)), Deletion::Guarded) => Some(format!("Streamward keeps its {what} there")),
            (None, _) if topic.starts_with("__") && deletion == Deletion::Guarded => {
                Some("the broker keeps its own state there".to_owned())
            }
            (_, Deletion::Forced) | (None, Deletion::Guarded) => None,
        };
        if let Some(reason) = reason {
            return Err(TopicError::Refused(format!(
                "topic {topic} is in use: {reason}; force it to delete it anyway"
            )));
        }
        self.answers(&topic).await?;
        let what = format!("delete topic {topic}");
        let admin = self.shared.admin()?;
        let deleted = admin.delete_topics(&[&topic], &change_options()).await;
        for result in deleted.map_err(|error| of_error(error, &topic, &what))? {
            result.map_err(|(_, code)| of_code(code, &topic, &what))?;
        }
        Ok(())
    }

    pub(super) async fn write(&self, topic: String, record: RecordToWrite) -> Result<Placed, TopicError> {
        // The client would wait long for a topic or partition that is not there.
        let partitions = self.partitions(&topic).await?;
        if let Some(partition) = record.partition.filter(|partition| !partitions.contains(partition)) {
            return Err(TopicError::UnknownPartition { topic, partition, partitions: partitions.len() });
        }
        let outgoing = Outgoing {
            topic: &topic,
            partition: record.partition,
            key: record.key.as_deref(),
            value: record.value.as_deref(),
            headers: record.headers.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect(),
        };
        match self.shared.producer.send(outgoing).await {
            Ok(place) => Ok(Placed { partition: place.partition, offset: place.offset }),
            Err(ProduceError::Refused(code)) => Err(of_code(code, &topic, &format!("write to topic {topic}"))),
            Err(ProduceError::Unavailable(error)) => {
                Err(TopicError::Unavailable(format!("write to topic {topic}: {error}")))
            }
        }
    }
}
