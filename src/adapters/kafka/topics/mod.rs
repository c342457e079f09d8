//! The broker's topics, their records and consumer groups, for people who look at them.
//!
//! Answers the port [`Topics`]: `catalog` lists and describes, `browse` reads pages of records through a `reader`,
//! `change` creates, alters, deletes and writes, `groups` shows and moves consumer groups. It works with the embedded
//! broker and with Apache Kafka alike.
//!
//! Invariants: reading commits no offset and joins no group; calls that block run away from the event loops, at most
//! [`CONCURRENT`] at a time; clients are made when they are first needed.
//! Start at [`KafkaTopics`].

mod browse;
mod catalog;
mod change;
mod cursor;
mod errors;
mod groups;
mod reader;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, sync::Arc, time::Duration};

use parking_lot::Mutex;
use rdkafka::{admin::AdminClient, config::FromClientConfigAndContext};
use streamward_core::ports::{
    Answer, Page, Placed,
    topics::{
        Deletion, GroupDetail, GroupOffset, GroupSummary, LogBounds, NewTopic, ReadFrom, RecordPage, RecordQuery,
        RecordToWrite, ResetTo, TopicChange, TopicDetail, TopicError, TopicSummary, TopicUse, Topics,
    },
};
use tokio::sync::Semaphore;

pub use self::catalog::Catalog;
use self::{
    browse::{Browse, MAX_PARTITIONS},
    cursor::{Direction, Positions},
    errors::unavailable,
    reader::Reader,
};
use super::{KafkaSettings, QuietContext, admin::TopicSpec, producer::KafkaProducer};

/// Blocking calls that run at once.
pub const CONCURRENT: usize = 4;
/// How long a call waits for its turn.
const TURN_WITHIN: Duration = Duration::from_secs(5);
/// Reading clients that are kept when nobody reads.
const IDLE_READERS: usize = 1;

/// Bytes of the topic of a name.
pub type Sizes = Arc<dyn Fn(&str) -> Option<u64> + Send + Sync>;

/// Why so many partitions cannot be added; none if they can.
pub type Refusal = Arc<dyn Fn(usize) -> Option<String> + Send + Sync>;

/// What the rest of the process knows about topics.
#[derive(Clone, Default)]
pub struct Knowledge {
    /// Topics that Streamward uses.
    pub uses: HashMap<String, TopicUse>,
    /// Bytes of a topic on the disk, where the broker is ours.
    pub bytes: Option<Sizes>,
    /// Its room for partitions, likewise: its answer to a request is a code without the reason.
    pub room: Option<Refusal>,
    /// Topics that the configuration names, as they are made when they are missing.
    pub specs: Vec<TopicSpec>,
}

/// Topics through librdkafka. Clones share their clients.
#[derive(Clone)]
pub struct KafkaTopics {
    shared: Arc<Shared>,
}

struct Shared {
    settings: KafkaSettings,
    knowledge: Knowledge,
    producer: KafkaProducer,
    turns: Arc<Semaphore>,
    catalog: Mutex<Option<Arc<Catalog>>>,
    admin: Mutex<Option<Arc<AdminClient<QuietContext>>>>,
    readers: Mutex<Vec<Reader>>,
}

impl KafkaTopics {
    /// Topics of a cluster; connects when it is first asked.
    #[must_use]
    pub fn new(settings: KafkaSettings, producer: KafkaProducer, knowledge: Knowledge) -> Self {
        let shared = Shared {
            settings,
            knowledge,
            producer,
            turns: Arc::new(Semaphore::new(CONCURRENT)),
            catalog: Mutex::default(),
            admin: Mutex::default(),
            readers: Mutex::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Runs a call that blocks when it is its turn.
    async fn blocking<T: Send + 'static>(
        &self,
        call: impl FnOnce(&Shared) -> Result<T, TopicError> + Send + 'static,
    ) -> Result<T, TopicError> {
        let turn = tokio::time::timeout(TURN_WITHIN, self.shared.turns.clone().acquire_owned()).await;
        let Ok(Ok(turn)) = turn else {
            return Err(TopicError::Busy(format!("{CONCURRENT} requests to the broker are under way: try again")));
        };
        let shared = self.shared.clone();
        // A caller that goes away does not end its call, which keeps its turn.
        let in_turn = move || {
            let _turn = turn;
            call(&shared)
        };
        #[expect(clippy::disallowed_methods, reason = "the caller waits for it, and answers its panic as an error")]
        let done = tokio::task::spawn_blocking(in_turn).await;
        done.map_err(|_| TopicError::Unavailable("the call was given up".to_owned()))?
    }
}

impl Shared {
    fn catalog(&self) -> Result<Arc<Catalog>, TopicError> {
        let mut catalog = self.catalog.lock();
        if let Some(known) = &*catalog {
            return Ok(known.clone());
        }
        let made = Arc::new(Catalog::connect(&self.settings).map_err(unavailable)?);
        *catalog = Some(made.clone());
        Ok(made)
    }

    fn admin(&self) -> Result<Arc<AdminClient<QuietContext>>, TopicError> {
        let mut admin = self.admin.lock();
        if let Some(known) = &*admin {
            return Ok(known.clone());
        }
        let config = self.settings.client("streamward-topics");
        let made = AdminClient::from_config_and_context(&config, QuietContext).map_err(unavailable)?;
        let made = Arc::new(made);
        *admin = Some(made.clone());
        Ok(made)
    }

    fn bytes(&self, topic: &str) -> Option<u64> {
        self.knowledge.bytes.as_ref().and_then(|bytes| bytes(topic))
    }

    /// Asks our own broker for room.
    fn has_room_for(&self, partitions: usize, what: &str) -> Result<(), TopicError> {
        let reason = self.knowledge.room.as_ref().and_then(|refusal| refusal(partitions));
        reason.map_or(Ok(()), |reason| Err(TopicError::Refused(format!("the broker refuses to {what}: {reason}"))))
    }

    fn used_by(&self, topic: &str) -> Option<TopicUse> {
        self.knowledge.uses.get(topic).cloned()
    }

    /// The topic as it is to be made: what the request leaves open, the configuration says.
    fn completed(&self, topic: NewTopic) -> TopicSpec {
        let NewTopic { name, partitions, mut configs } = topic;
        let spec = self.knowledge.specs.iter().find(|spec| spec.name == name);
        let of_spec = spec.map_or(&[][..], |spec| &spec.configs).iter();
        let open = of_spec.filter(|(setting, _)| !configs.iter().any(|(given, _)| given == setting));
        let open: Vec<_> = open.cloned().collect();
        configs.extend(open);
        let partitions = match partitions {
            Some(partitions) => i32::try_from(partitions).unwrap_or(i32::MAX),
            None => spec.map_or(1, |spec| spec.partitions),
        };
        TopicSpec { name, partitions, configs }
    }

    fn records(&self, query: &RecordQuery) -> Result<RecordPage, TopicError> {
        let catalog = self.catalog()?;
        let partitions = catalog.partitions(&query.topic)?;
        let asked = match query.partition {
            Some(one) if !partitions.contains(&one) => {
                let (topic, partitions) = (query.topic.clone(), partitions.len());
                return Err(TopicError::UnknownPartition { topic, partition: one, partitions });
            }
            Some(one) => vec![one],
            None if partitions.len() > MAX_PARTITIONS => {
                let reason =
                    format!("the topic has {}, at most {MAX_PARTITIONS} are read at once: name one", partitions.len());
                return Err(TopicError::Invalid { field: "partition", reason });
            }
            None => partitions,
        };
        let bounds = catalog.bounds(&query.topic, &asked)?;
        let ends = || bounds.iter().map(|log| (log.partition, log.end)).collect();
        let at = |offset: i64| bounds.iter().map(|log| (log.partition, offset.clamp(log.start, log.end))).collect();
        let (direction, positions): (Direction, Positions) = match &query.from {
            ReadFrom::Newest => (Direction::Older, ends()),
            ReadFrom::Oldest => (Direction::Newer, at(0)),
            ReadFrom::Offset(offset) => (Direction::Newer, at(*offset)),
            ReadFrom::TimeMs(time_ms) => (Direction::Newer, catalog.at_time(&query.topic, &bounds, *time_ms)?),
            ReadFrom::Cursor(text) => {
                let (direction, given) = cursor::parse(text).ok_or(TopicError::BadCursor)?;
                if given.keys().any(|partition| !asked.contains(partition)) {
                    return Err(TopicError::BadCursor);
                }
                let position = |log: &LogBounds| {
                    let given = given.get(&log.partition).copied().unwrap_or(log.start);
                    (log.partition, given.clamp(log.start, log.end))
                };
                (direction, bounds.iter().map(position).collect())
            }
        };
        let idle = self.readers.lock().pop();
        let reader = idle.map_or_else(|| Reader::connect(&self.settings), Ok).map_err(unavailable)?;
        let page = Browse { reader: &reader, query, bounds: &bounds, positions }.page(direction);
        let mut readers = self.readers.lock();
        if page.is_ok() && readers.len() < IDLE_READERS {
            readers.push(reader);
        }
        page
    }
}

impl Topics for KafkaTopics {
    fn list(&self, after: Option<String>, limit: u32) -> Answer<'_, Page<TopicSummary>, TopicError> {
        Box::pin(self.list_page(after, limit))
    }

    fn describe(&self, topic: String) -> Answer<'_, TopicDetail, TopicError> {
        Box::pin(self.describe_topic(topic))
    }

    fn create(&self, topic: NewTopic) -> Answer<'_, u32, TopicError> {
        Box::pin(self.create_topic(topic))
    }

    fn alter(&self, topic: String, change: TopicChange) -> Answer<'_, (), TopicError> {
        Box::pin(self.alter_topic(topic, change))
    }

    fn delete(&self, topic: String, deletion: Deletion) -> Answer<'_, (), TopicError> {
        Box::pin(self.delete_topic(topic, deletion))
    }

    fn records(&self, query: RecordQuery) -> Answer<'_, RecordPage, TopicError> {
        Box::pin(self.blocking(move |shared| shared.records(&query)))
    }

    fn produce(&self, topic: String, record: RecordToWrite) -> Answer<'_, Placed, TopicError> {
        Box::pin(self.write(topic, record))
    }

    fn groups(&self) -> Answer<'_, Vec<GroupSummary>, TopicError> {
        Box::pin(self.blocking(|shared| groups::all(&*shared.catalog()?)))
    }

    fn group(&self, group: String) -> Answer<'_, GroupDetail, TopicError> {
        Box::pin(self.blocking(move |shared| {
            let catalog = shared.catalog()?;
            groups::detail(&shared.settings, &catalog, &group)
        }))
    }

    fn reset(&self, group: String, topic: String, to: ResetTo) -> Answer<'_, Vec<GroupOffset>, TopicError> {
        Box::pin(self.blocking(move |shared| {
            let catalog = shared.catalog()?;
            groups::Reset { settings: &shared.settings, catalog: &catalog, group: &group, topic: &topic }.run(&to)
        }))
    }
}
