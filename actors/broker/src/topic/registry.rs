//! The topics of a broker: found by name or id, created, grown, configured, removed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use uuid::Uuid;

use super::settings::{self, TopicSettings};
use super::{Partition, Topic};
use crate::config::BrokerConfig;
use crate::error::{Code, KResult, OpenError, TopicError};
use crate::log::produced::max_opened_bytes;
use crate::log::{BootId, LogOptions, PartitionLog, files};
use crate::meta::{Change, Durability, MetaStore, TopicMeta};
use crate::{MAX_PARTITIONS, MAX_PARTITIONS_PER_TOPIC};

const MAX_NAME_BYTES: usize = 249;
/// Bytes of a topic's name in the name of its folder, beside the id.
const MAX_FOLDER_NAME_BYTES: usize = 200;

/// Files that a new partition opens: its first segment and its marks.
const FILES_OF_A_PARTITION: usize = 2;

/// All topics.
#[derive(Debug)]
pub(crate) struct Topics {
    config: Arc<BrokerConfig>,
    boot: BootId,
    meta: Arc<Mutex<MetaStore>>,
    by_name: RwLock<BTreeMap<String, Arc<Topic>>>,
    /// Held while topics are created, grown or removed.
    changing: Mutex<()>,
}

fn storage(error: impl std::fmt::Display) -> TopicError {
    TopicError::Storage(error.to_string())
}

impl Topics {
    /// Opens the logs of all topics in the metadata and removes folders of topics that are not.
    ///
    /// # Errors
    /// What the file system says.
    pub fn open(config: Arc<BrokerConfig>, boot: BootId, meta: Arc<Mutex<MetaStore>>) -> Result<Self, OpenError> {
        let (known, is_whole) = {
            let meta = meta.lock();
            (meta.state().topics.clone(), meta.is_whole())
        };
        let topics = Self { config, boot, meta, by_name: RwLock::default(), changing: Mutex::new(()) };
        let root = topics.root();
        std::fs::create_dir_all(&root).map_err(OpenError::io(&root))?;
        topics.clear_strays(&known, is_whole)?;
        for (name, meta) in &known {
            let dir = topics.topic_dir(name, meta.id);
            let topic = topics.open_topic(name, meta).map_err(OpenError::io(dir))?;
            topics.by_name.write().insert(name.clone(), Arc::new(topic));
        }
        Ok(topics)
    }

    fn root(&self) -> PathBuf {
        self.config.data_dir.join("topics")
    }

    fn topic_dir(&self, name: &str, id: Uuid) -> PathBuf {
        let shown = &name[..name.len().min(MAX_FOLDER_NAME_BYTES)];
        self.root().join(format!("{shown}.{}", id.simple()))
    }

    /// Folders of no known topic: left by a removal that did not end, so they are removed. Where metadata was lost they
    /// may be all that is left of a topic, so they are put aside.
    fn clear_strays(&self, known: &BTreeMap<String, TopicMeta>, is_whole: bool) -> Result<(), OpenError> {
        let root = self.root();
        let aside = self.config.data_dir.join("strays");
        let kept: Vec<PathBuf> = known.iter().map(|(name, meta)| self.topic_dir(name, meta.id)).collect();
        for entry in std::fs::read_dir(&root).map_err(OpenError::io(&root))? {
            let entry = entry.map_err(OpenError::io(&root))?;
            let path = entry.path();
            if kept.contains(&path) || !path.is_dir() {
                continue;
            }
            if is_whole {
                std::fs::remove_dir_all(&path).map_err(OpenError::io(&path))?;
                continue;
            }
            let to = aside.join(entry.file_name());
            tracing::warn!(from = %path.display(), to = %to.display(), "metadata was lost: a topic it does not name is put aside");
            std::fs::create_dir_all(&aside).map_err(OpenError::io(&aside))?;
            std::fs::rename(&path, &to).map_err(OpenError::io(&path))?;
        }
        Ok(())
    }

    fn open_topic(&self, name: &str, meta: &TopicMeta) -> std::io::Result<Topic> {
        let partitions = (0..meta.partitions)
            .map(|index| self.open_partition(name, meta, index))
            .collect::<std::io::Result<Vec<_>>>()?;
        let settings = TopicSettings::new(&meta.configs, &self.config);
        Ok(Topic {
            name: name.to_owned(),
            id: meta.id,
            partitions: RwLock::new(partitions),
            settings: RwLock::new(Arc::new(settings)),
        })
    }

    fn open_partition(&self, name: &str, meta: &TopicMeta, index: i32) -> std::io::Result<Arc<Partition>> {
        let dir = self.topic_dir(name, meta.id).join(index.to_string());
        let options = LogOptions {
            boot: self.boot.clone(),
            fsync: self.config.fsync,
            start_offset: meta.starts.get(&index).copied().unwrap_or(0),
            max_opened_bytes: max_opened_bytes(TopicSettings::new(&meta.configs, &self.config).max_message_bytes),
        };
        let is_new = !dir.exists();
        let log = PartitionLog::open(&dir, options)?;
        if is_new {
            files::sync_dir(&dir)?;
        }
        Ok(Partition::new(log))
    }

    pub fn get(&self, name: &str) -> Option<Arc<Topic>> {
        self.by_name.read().get(name).cloned()
    }

    pub fn get_by_id(&self, id: Uuid) -> Option<Arc<Topic>> {
        self.by_name.read().values().find(|t| t.id == id).cloned()
    }

    pub fn all(&self) -> Vec<Arc<Topic>> {
        self.by_name.read().values().cloned().collect()
    }

    /// A partition, or the code that says that there is none.
    ///
    /// # Errors
    /// `UnknownTopicOrPartition`.
    pub fn partition(&self, topic: &str, index: i32) -> KResult<Arc<Partition>> {
        self.get(topic).and_then(|t| t.partition(index)).ok_or(Code::UnknownTopicOrPartition)
    }

    /// Checks everything about a topic that is to be created.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check_new(&self, name: &str, partitions: i32, configs: &BTreeMap<String, String>) -> Result<(), TopicError> {
        let is_valid = |c: u8| c.is_ascii_alphanumeric() || b"._-".contains(&c);
        let is_named = (1..=MAX_NAME_BYTES).contains(&name.len()) && name.bytes().all(is_valid);
        if !is_named || name == "." || name == ".." {
            return Err(TopicError::InvalidName(name.to_owned()));
        }
        if self.get(name).is_some() {
            return Err(TopicError::Exists(name.to_owned()));
        }
        self.check_count(name, 0, partitions)?;
        if let Some(other) = self.colliding(name) {
            return Err(TopicError::Collision { name: name.to_owned(), other });
        }
        settings::check(configs, &self.config)
    }

    /// Another topic whose name differs in dots and underscores alone: metrics could not tell them apart.
    fn colliding(&self, name: &str) -> Option<String> {
        let folded = |name: &str| name.replace('.', "_");
        let wanted = folded(name);
        self.by_name.read().keys().find(|other| folded(other) == wanted).cloned()
    }

    /// Checks that a topic may have more partitions than now.
    ///
    /// # Errors
    /// What is wrong.
    pub fn check_count(&self, name: &str, now: i32, wanted: i32) -> Result<(), TopicError> {
        if wanted <= now || wanted > MAX_PARTITIONS_PER_TOPIC {
            return Err(TopicError::InvalidPartitions { topic: name.to_owned(), partitions: wanted });
        }
        self.check_room(wanted - now)
    }

    /// Checks that the broker may have so many partitions more.
    ///
    /// # Errors
    /// `TooManyPartitions`, `TooManyFiles`.
    pub fn check_room(&self, added: i32) -> Result<(), TopicError> {
        let topics = self.all();
        let partitions: i32 = topics.iter().map(|t| t.partition_count()).sum();
        if partitions.saturating_add(added) > MAX_PARTITIONS {
            return Err(TopicError::TooManyPartitions);
        }
        let logs = topics.iter().flat_map(|topic| topic.partitions());
        let held: usize = logs.map(|partition| partition.log.lock().open_files()).sum();
        let more = FILES_OF_A_PARTITION.saturating_mul(usize::try_from(added).unwrap_or(0));
        let max = self.config.max_files;
        if held.saturating_add(more) > max { Err(TopicError::TooManyFiles { held, max }) } else { Ok(()) }
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// What is wrong with the request, or what the file system says.
    pub fn create(
        &self,
        name: &str,
        partitions: i32,
        configs: BTreeMap<String, String>,
    ) -> Result<Arc<Topic>, TopicError> {
        let _changing = self.changing.lock();
        self.check_new(name, partitions, &configs)?;
        let meta = TopicMeta { id: Uuid::new_v4(), partitions, configs, starts: BTreeMap::new() };
        let topic = Arc::new(self.open_topic(name, &meta).map_err(storage)?);
        let dir = self.topic_dir(name, meta.id);
        files::sync_dir(&dir).map_err(storage)?;
        files::sync_dir(&self.root()).map_err(storage)?;
        let change = Change::Topic { name: name.to_owned(), meta };
        self.commit(change)?;
        let mut by_name = self.by_name.write();
        by_name.insert(name.to_owned(), topic.clone());
        Ok(topic)
    }

    fn commit(&self, change: Change) -> Result<(), TopicError> {
        let mut meta = self.meta.lock();
        meta.commit(change, Durability::Synced).map_err(storage)
    }

    /// Adds partitions to a topic.
    ///
    /// # Errors
    /// What is wrong with the request, or what the file system says.
    pub fn grow(&self, name: &str, count: i32) -> Result<(), TopicError> {
        let _changing = self.changing.lock();
        let topic = self.existing(name)?;
        let now = topic.partition_count();
        self.check_count(name, now, count)?;
        let mut meta = self.meta_of(name)?;
        meta.partitions = count;
        let added = (now..count)
            .map(|index| self.open_partition(name, &meta, index))
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(storage)?;
        files::sync_dir(&self.topic_dir(name, meta.id)).map_err(storage)?;
        self.commit(Change::Partitions { topic: name.to_owned(), count })?;
        topic.partitions.write().extend(added);
        Ok(())
    }

    /// Removes a topic and its records.
    ///
    /// # Errors
    /// `Unknown`, or what the file system says.
    pub fn delete(&self, name: &str) -> Result<(), TopicError> {
        let _changing = self.changing.lock();
        let topic = self.existing(name)?;
        self.commit(Change::TopicDeleted { topic: name.to_owned() })?;
        self.by_name.write().remove(name);
        for partition in topic.partitions() {
            let outcome = partition.log.lock().delete();
            if let Err(error) = outcome {
                tracing::warn!(topic = name, %error, "a removed topic's folder is left");
            }
            partition.waiters.wake();
        }
        std::fs::remove_dir(self.topic_dir(name, topic.id)).unwrap_or_else(|error| {
            tracing::warn!(topic = name, %error, "a removed topic's folder is left");
        });
        Ok(())
    }

    /// The entries that a topic's creator or administrators named.
    ///
    /// # Errors
    /// `Unknown`.
    pub fn configs(&self, name: &str) -> Result<BTreeMap<String, String>, TopicError> {
        Ok(self.meta_of(name)?.configs)
    }

    /// Replaces a topic's entries; they hold from the next request on.
    ///
    /// # Errors
    /// `Unknown`, `InvalidConfig`, or what the file system says.
    pub fn configure(&self, name: &str, configs: BTreeMap<String, String>) -> Result<(), TopicError> {
        settings::check(&configs, &self.config)?;
        let topic = self.existing(name)?;
        let settings = Arc::new(TopicSettings::new(&configs, &self.config));
        self.commit(Change::Configs { topic: name.to_owned(), configs })?;
        *topic.settings.write() = settings;
        Ok(())
    }

    /// Deletes records below an offset, -1 for all; the new start of the log.
    ///
    /// # Errors
    /// `UnknownTopicOrPartition`, `OffsetOutOfRange` beyond the end, `KafkaStorageError`.
    pub fn delete_records(&self, name: &str, index: i32, offset: i64) -> KResult<i64> {
        let partition = self.partition(name, index)?;
        let storage = |_| Code::KafkaStorageError;
        let mut log = partition.log.lock();
        let end = log.high_watermark();
        let offset = if offset == -1 { end } else { offset };
        if !(0..=end).contains(&offset) {
            return Err(Code::OffsetOutOfRange);
        }
        let change =
            Change::LogStart { topic: name.to_owned(), partition: index, offset: offset.max(log.start_offset()) };
        let mut meta = self.meta.lock();
        meta.commit(change, Durability::Synced).map_err(storage)?;
        drop(meta);
        log.delete_before(offset).map_err(storage)
    }

    fn existing(&self, name: &str) -> Result<Arc<Topic>, TopicError> {
        self.get(name).ok_or_else(|| TopicError::Unknown(name.to_owned()))
    }

    fn meta_of(&self, name: &str) -> Result<TopicMeta, TopicError> {
        let meta = self.meta.lock();
        let found = meta.state().topics.get(name).cloned();
        found.ok_or_else(|| TopicError::Unknown(name.to_owned()))
    }
}
