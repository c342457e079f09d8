//! What the broker knows beside records: topics, committed offsets, producer ids, transactions.
//!
//! [`MetaState`] is the state; [`Change`] is the only way to alter it; [`MetaStore`] writes each
//! change to an append-only file before it applies it. The file is rewritten from the state when it
//! is opened and when it has grown far beyond it.

mod file;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::auth::{Hash, ScramKeys};
use crate::error::OpenError;
pub(crate) use crate::log::files::Durability;
use crate::quota::{QuotaEntity, QuotaLimits};
use file::MetaFile;

/// Bytes of changes after which the file is rewritten, if the state itself is smaller.
const REWRITE_BYTES: u64 = 16 << 20;

/// A committed position of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CommittedOffset {
    pub offset: i64,
    pub metadata: String,
    pub committed_ms: i64,
    /// Epoch of the leader that the offset was read from; -1 where the client gave none.
    #[serde(default = "no_leader_epoch")]
    pub leader_epoch: i32,
}

fn no_leader_epoch() -> i32 {
    -1
}

/// A topic as created.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TopicMeta {
    pub id: Uuid,
    pub partitions: i32,
    pub configs: BTreeMap<String, String>,
    /// Offsets below which records were deleted by request.
    #[serde(default)]
    pub starts: BTreeMap<i32, i64>,
}

/// Offsets of one group by topic and partition.
pub(crate) type GroupOffsets = BTreeMap<String, BTreeMap<i32, CommittedOffset>>;

/// Where a transactional producer stands (KIP-98).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum TxnStatus {
    Empty,
    Ongoing,
    PrepareCommit,
    PrepareAbort,
    Committed,
    Aborted,
}

/// One offset that a transaction commits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TxnOffset {
    pub group: String,
    pub topic: String,
    pub partition: i32,
    pub committed: CommittedOffset,
}

/// A transactional producer and its transaction.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TxnMeta {
    pub producer_id: i64,
    pub epoch: i16,
    /// Epoch that the present producer had before it asked for this one; -1 if it is another producer.
    #[serde(default = "no_epoch")]
    pub last_epoch: i16,
    pub timeout_ms: i32,
    pub status: TxnStatus,
    pub begun_ms: i64,
    pub updated_ms: i64,
    pub partitions: BTreeSet<(String, i32)>,
    pub groups: BTreeSet<String>,
    pub offsets: Vec<TxnOffset>,
    /// The last marker that was written to each partition: with it a restart notices one that a loss of power took.
    #[serde(default)]
    pub markers: Vec<WrittenMarker>,
}

/// A marker as it was written to a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WrittenMarker {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub producer_id: i64,
    pub epoch: i16,
    pub is_commit: bool,
}

fn no_epoch() -> i16 {
    -1
}

/// Everything that survives a restart, except records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct MetaState {
    pub cluster_id: String,
    pub topics: BTreeMap<String, TopicMeta>,
    pub groups: BTreeMap<String, GroupOffsets>,
    pub next_producer_id: i64,
    pub txns: BTreeMap<String, TxnMeta>,
    /// SCRAM keys that administrators stored, by user (KIP-554).
    pub scram: BTreeMap<String, BTreeMap<Hash, ScramKeys>>,
    /// Byte rates that administrators stored (KIP-546).
    pub quotas: BTreeMap<QuotaEntity, QuotaLimits>,
}

/// One alteration of the state, as it is written to the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    Cluster { id: String },
    Topic { name: String, meta: TopicMeta },
    Partitions { topic: String, count: i32 },
    Configs { topic: String, configs: BTreeMap<String, String> },
    TopicDeleted { topic: String },
    LogStart { topic: String, partition: i32, offset: i64 },
    Offsets { group: String, offsets: Vec<(String, i32, CommittedOffset)> },
    OffsetsDeleted { group: String, partitions: Vec<(String, i32)> },
    GroupDeleted { group: String },
    ProducerIds { next: i64 },
    Txn { id: String, meta: TxnMeta },
    TxnDeleted { id: String },
    Scram { user: String, keys: BTreeMap<Hash, ScramKeys> },
    Quota { entity: QuotaEntity, limits: QuotaLimits },
}

impl MetaState {
    /// The stored SCRAM keys of a user.
    pub fn scram_keys(&self, hash: Hash, user: &str) -> Option<&ScramKeys> {
        self.scram.get(user)?.get(&hash)
    }

    /// Applies a change; one about something unknown has no effect.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Cluster { id } => self.cluster_id = id,
            Change::Topic { name, meta } => {
                self.topics.insert(name, meta);
            }
            Change::Partitions { topic, count } => {
                if let Some(t) = self.topics.get_mut(&topic) {
                    t.partitions = count;
                }
            }
            Change::Configs { topic, configs } => {
                if let Some(t) = self.topics.get_mut(&topic) {
                    t.configs = configs;
                }
            }
            Change::TopicDeleted { topic } => self.forget_topic(&topic),
            Change::LogStart { topic, partition, offset } => {
                if let Some(t) = self.topics.get_mut(&topic) {
                    t.starts.insert(partition, offset);
                }
            }
            Change::Offsets { group, offsets } => {
                let known = self.groups.entry(group).or_default();
                for (topic, partition, committed) in offsets {
                    known.entry(topic).or_default().insert(partition, committed);
                }
            }
            Change::OffsetsDeleted { group, partitions } => {
                self.delete_offsets(&group, &partitions);
            }
            Change::GroupDeleted { group } => {
                self.groups.remove(&group);
            }
            Change::ProducerIds { next } => {
                self.next_producer_id = self.next_producer_id.max(next);
            }
            Change::Txn { id, meta } => {
                self.txns.insert(id, meta);
            }
            Change::TxnDeleted { id } => {
                self.txns.remove(&id);
            }
            Change::Scram { user, keys } if keys.is_empty() => {
                self.scram.remove(&user);
            }
            Change::Scram { user, keys } => {
                self.scram.insert(user, keys);
            }
            Change::Quota { entity, limits } if limits.is_empty() => {
                self.quotas.remove(&entity);
            }
            Change::Quota { entity, limits } => {
                self.quotas.insert(entity, limits);
            }
        }
    }

    fn forget_topic(&mut self, topic: &str) {
        self.topics.remove(topic);
        self.groups.retain(|_, offsets| {
            let had = offsets.remove(topic).is_some();
            !(had && offsets.is_empty())
        });
        for txn in self.txns.values_mut() {
            txn.partitions.retain(|(t, _)| t != topic);
            txn.offsets.retain(|o| o.topic != topic);
            txn.markers.retain(|m| m.topic != topic);
        }
    }

    fn delete_offsets(&mut self, group: &str, partitions: &[(String, i32)]) {
        let Some(offsets) = self.groups.get_mut(group) else {
            return;
        };
        for (topic, partition) in partitions {
            if let Some(known) = offsets.get_mut(topic) {
                known.remove(partition);
                if known.is_empty() {
                    offsets.remove(topic);
                }
            }
        }
    }

    /// The shortest list of changes that leads from nothing to this state.
    fn changes(&self) -> impl Iterator<Item = Change> + '_ {
        let cluster = std::iter::once(Change::Cluster { id: self.cluster_id.clone() });
        let ids = std::iter::once(Change::ProducerIds { next: self.next_producer_id });
        let topics = self.topics.iter().map(|(name, meta)| Change::Topic { name: name.clone(), meta: meta.clone() });
        let groups = self.groups.iter().map(|(group, offsets)| Change::Offsets {
            group: group.clone(),
            offsets: offsets
                .iter()
                .flat_map(|(t, ps)| ps.iter().map(move |(p, o)| (t.clone(), *p, o.clone())))
                .collect(),
        });
        let txns = self.txns.iter().map(|(id, meta)| Change::Txn { id: id.clone(), meta: meta.clone() });
        let scram = self.scram.iter().map(|(user, keys)| Change::Scram { user: user.clone(), keys: keys.clone() });
        let quotas =
            self.quotas.iter().map(|(entity, limits)| Change::Quota { entity: entity.clone(), limits: *limits });
        cluster.chain(ids).chain(topics).chain(groups).chain(txns).chain(scram).chain(quotas)
    }
}

/// The state and the file that it is read from at the next start.
#[derive(Debug)]
pub(crate) struct MetaStore {
    state: MetaState,
    file: MetaFile,
    rewritten_bytes: u64,
    is_whole: bool,
}

impl MetaStore {
    /// Reads the state, cutting a torn last change off, and rewrites the file.
    ///
    /// # Errors
    /// What the file system says, and a change that this version does not know.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let mut state = MetaState::default();
        let found = file::read(path)?;
        for change in found.changes {
            state.apply(change);
        }
        if state.cluster_id.is_empty() {
            state.cluster_id = Uuid::new_v4().simple().to_string();
        }
        let file = MetaFile::rewrite(path, state.changes()).map_err(OpenError::io(path))?;
        Ok(Self { rewritten_bytes: file.size_bytes(), state, file, is_whole: found.is_whole })
    }

    /// Whether all of the state was there when it was opened.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    pub fn state(&self) -> &MetaState {
        &self.state
    }

    /// Writes a change, then applies it; after an error neither has happened.
    ///
    /// # Errors
    /// What the file system says.
    pub fn commit(&mut self, change: Change, durability: Durability) -> io::Result<()> {
        if self.file.is_doubtful() {
            self.rewrite()?;
        }
        self.file.append(&change, durability)?;
        self.state.apply(change);
        Ok(())
    }

    /// The file, if changes are not on the disk yet, to be synced without the store's lock; after a failure
    /// [`Self::doubt`] must be told.
    pub fn take_dirty(&mut self) -> Option<Arc<File>> {
        self.file.take_dirty()
    }

    /// Takes note that a sync failed: the file is written anew before the next change.
    pub fn doubt(&mut self) {
        self.file.doubt();
    }

    fn rewrite(&mut self) -> io::Result<()> {
        self.file = MetaFile::rewrite(self.file.path(), self.state.changes())?;
        self.rewritten_bytes = self.file.size_bytes();
        Ok(())
    }

    /// Rewrites the file if most of it is history, or what is in it is not known.
    ///
    /// # Errors
    /// What the file system says; the old file stays in use then.
    pub fn compact_if_due(&mut self) -> io::Result<()> {
        let is_long = self.file.size_bytes() > REWRITE_BYTES.max(4 * self.rewritten_bytes);
        if is_long || self.file.is_doubtful() { self.rewrite() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(offset: i64) -> CommittedOffset {
        CommittedOffset { offset, metadata: String::new(), committed_ms: 5, leader_epoch: 0 }
    }

    fn topic(name: &str) -> Change {
        Change::Topic {
            name: name.to_owned(),
            meta: TopicMeta {
                id: Uuid::from_u128(7),
                partitions: 3,
                configs: BTreeMap::from([("retention.ms".to_owned(), "1".to_owned())]),
                starts: BTreeMap::new(),
            },
        }
    }

    fn scram() -> BTreeMap<Hash, ScramKeys> {
        let keys = ScramKeys { salt: vec![1], iterations: 4_096, stored_key: vec![2; 32], server_key: vec![3; 32] };
        BTreeMap::from([(Hash::Sha256, keys)])
    }

    fn commits(store: &mut MetaStore, changes: impl IntoIterator<Item = Change>) {
        for change in changes {
            store.commit(change, Durability::Cached).unwrap();
        }
    }

    #[test]
    fn the_state_is_the_same_after_a_restart_and_after_a_rewrite() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata.log");
        let mut store = MetaStore::open(&path).unwrap();
        commits(
            &mut store,
            [
                topic("a"),
                topic("b"),
                Change::Offsets {
                    group: "g".to_owned(),
                    offsets: vec![("a".to_owned(), 0, offset(4)), ("b".to_owned(), 1, offset(9))],
                },
                Change::LogStart { topic: "a".to_owned(), partition: 2, offset: 40 },
                Change::TopicDeleted { topic: "b".to_owned() },
                Change::ProducerIds { next: 1_000 },
                Change::Scram { user: "u".to_owned(), keys: scram() },
                Change::Scram { user: "v".to_owned(), keys: scram() },
                Change::Scram { user: "v".to_owned(), keys: BTreeMap::new() },
            ],
        );
        let before = store.state().clone();
        assert_eq!(before.groups["g"].len(), 1);
        assert_eq!(before.scram.keys().collect::<Vec<_>>(), ["u"]);
        drop(store);
        for _ in 0..2 {
            assert_eq!(MetaStore::open(&path).unwrap().state(), &before);
        }
    }

    #[test]
    fn a_torn_last_change_is_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata.log");
        let mut store = MetaStore::open(&path).unwrap();
        commits(&mut store, [topic("a")]);
        let before = store.state().clone();
        let whole = std::fs::metadata(&path).unwrap().len();
        commits(&mut store, [topic("b")]);
        drop(store);
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_len(whole + 9).unwrap();
        let store = MetaStore::open(&path).unwrap();
        assert_eq!(store.state(), &before);
        assert!(!store.is_whole());
        assert!(MetaStore::open(&path).unwrap().is_whole());
    }

    #[test]
    fn zeros_at_the_end_are_cut_off() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata.log");
        let mut store = MetaStore::open(&path).unwrap();
        commits(&mut store, [topic("a")]);
        let whole = std::fs::metadata(&path).unwrap().len();
        let file = std::fs::File::options().write(true).open(&path).unwrap();
        file.set_len(whole + 4_096).unwrap();
        assert_eq!(MetaStore::open(&path).unwrap().state(), store.state());
    }

    #[test]
    fn after_a_failed_sync_the_next_change_rewrites_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metadata.log");
        let mut store = MetaStore::open(&path).unwrap();
        commits(&mut store, [topic("a")]);
        assert!(store.take_dirty().is_some() && store.take_dirty().is_none());
        store.doubt();
        std::fs::write(&path, b"lost").unwrap();
        commits(&mut store, [topic("b")]);
        let again = MetaStore::open(&path).unwrap();
        assert_eq!(again.state(), store.state());
        assert_eq!(again.state().topics.len(), 2);
    }
}
