//! Transactions over partitions and committed offsets (KIP-98, KIP-360, KIP-447).
//!
//! The state of each transactional id is in [`crate::meta`]. A transaction ends in two steps: the
//! decision is written, then markers are appended to its partitions and its offsets are stored; a
//! broker that ends in between finishes the second step when it is opened. Requests of one id are
//! taken one at a time; an append checks the state under its log's lock, so that none can follow the
//! marker of its transaction.
//!
//! Start with [`Inner::end_txn`].

mod recovery;
mod requests;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};

use parking_lot::Mutex;

use crate::Fsync;
use crate::broker::Inner;
use crate::error::{Code, KResult};
use crate::log::batch::Marker;
use crate::meta::{Change, CommittedOffset, Durability, TxnMeta, TxnStatus, WrittenMarker};

/// Time-out of a transaction that a producer may ask for.
const MAX_TIMEOUT_MS: i32 = 900_000;
/// Transactional ids that are remembered.
const MAX_IDS: usize = 100_000;
/// Locks of all transactional ids; nobody holds two.
const LOCKS: usize = 256;
/// Transactional ids that nobody used for this long are forgotten.
const ID_EXPIRY_MS: i64 = 7 * 24 * 3_600 * 1_000;

/// Epoch of nobody.
const NO_EPOCH: i16 = -1;

/// A transactional producer's id and epoch.
pub(crate) type ProducerEpoch = (i64, i16);

/// Locks that keep the requests of one transactional id apart; ids share them, whoever makes ids up.
#[derive(Debug)]
pub(crate) struct Txns {
    locks: [Mutex<()>; LOCKS],
    hasher: RandomState,
}

impl Default for Txns {
    fn default() -> Self {
        Self { locks: std::array::from_fn(|_| Mutex::default()), hasher: RandomState::new() }
    }
}

impl Txns {
    fn lock_of(&self, id: &str) -> &Mutex<()> {
        let at = self.hasher.hash_one(id) % LOCKS as u64;
        &self.locks[at as usize]
    }
}

fn storage(error: impl std::fmt::Display) -> Code {
    tracing::error!(%error, "transaction state cannot be written");
    Code::KafkaStorageError
}

impl TxnMeta {
    fn new(producer_id: i64, timeout_ms: i32) -> Self {
        Self {
            producer_id,
            epoch: 0,
            last_epoch: NO_EPOCH,
            timeout_ms,
            status: TxnStatus::Empty,
            begun_ms: 0,
            updated_ms: crate::now_ms(),
            partitions: Default::default(),
            groups: Default::default(),
            offsets: Vec::new(),
            markers: Vec::new(),
        }
    }

    fn is_open(&self) -> bool {
        match self.status {
            TxnStatus::Ongoing | TxnStatus::PrepareCommit | TxnStatus::PrepareAbort => true,
            TxnStatus::Empty | TxnStatus::Committed | TxnStatus::Aborted => false,
        }
    }

    /// Begins the transaction with its first partition or group.
    fn begin(&mut self) {
        self.updated_ms = crate::now_ms();
        if self.status != TxnStatus::Ongoing {
            self.status = TxnStatus::Ongoing;
            self.begun_ms = self.updated_ms;
        }
    }

    /// Checks that a request is from the present producer.
    fn check(&self, producer: ProducerEpoch) -> KResult<()> {
        if producer.0 != self.producer_id {
            Err(Code::InvalidProducerIdMapping)
        } else if producer.1 < self.epoch {
            Err(Code::ProducerFenced)
        } else if producer.1 > self.epoch {
            Err(Code::InvalidProducerEpoch)
        } else {
            Ok(())
        }
    }
}

impl Inner {
    fn txn(&self, id: &str) -> KResult<TxnMeta> {
        let meta = self.meta.lock();
        let known = meta.state().txns.get(id).cloned();
        known.ok_or(Code::InvalidProducerIdMapping)
    }

    fn store_txn(&self, id: &str, txn: &TxnMeta) -> KResult<()> {
        let change = Change::Txn { id: id.to_owned(), meta: txn.clone() };
        self.meta.lock().commit(change, Durability::Cached).map_err(storage)
    }

    /// Whether a transactional batch may be appended; called with the log's lock held.
    ///
    /// # Errors
    /// `InvalidTxnState` when the partition is not in an open transaction, and why the producer is
    /// not the present one.
    pub fn check_txn_append(&self, id: &str, producer: ProducerEpoch, at: (&str, i32)) -> KResult<()> {
        let meta = self.meta.lock();
        let txn = meta.state().txns.get(id);
        let txn = txn.ok_or(Code::InvalidProducerIdMapping)?;
        if producer.0 == txn.producer_id && producer.1 < txn.epoch {
            return Err(Code::InvalidProducerEpoch);
        }
        txn.check(producer)?;
        let is_in = txn.partitions.iter().any(|(t, p)| (t.as_str(), *p) == at);
        if txn.status == TxnStatus::Ongoing && is_in { Ok(()) } else { Err(Code::InvalidTxnState) }
    }

    /// Partitions whose committed offset an open transaction is about to change. Asked for before the offsets are read,
    /// so that what is read of the others is not older than the transactions that have ended (KIP-447).
    pub fn unstable_offsets(&self, group: &str) -> BTreeSet<(String, i32)> {
        let meta = self.meta.lock();
        let open = meta.state().txns.values().filter(|t| t.is_open() && t.groups.contains(group));
        let of_group = open.flat_map(|txn| &txn.offsets).filter(|o| o.group == group);
        of_group.map(|o| (o.topic.clone(), o.partition)).collect()
    }

    /// Commits or aborts a transaction.
    ///
    /// # Errors
    /// `InvalidTxnState` when there is none to end that way, why the producer is not the present
    /// one, `KafkaStorageError`.
    pub fn end_txn(&self, id: &str, producer: ProducerEpoch, kind: Marker) -> KResult<()> {
        let lock = self.txns.lock_of(id);
        let _one_at_a_time = lock.lock();
        let txn = self.txn(id)?;
        txn.check(producer)?;
        match (txn.status, kind) {
            (TxnStatus::Ongoing, _) => self.decide(id, txn, kind),
            (TxnStatus::PrepareCommit, Marker::Commit) | (TxnStatus::PrepareAbort, Marker::Abort) => {
                self.finish(id, txn, kind)
            }
            // The client repeats a request whose answer it did not get.
            (TxnStatus::Committed, Marker::Commit) | (TxnStatus::Aborted, Marker::Abort) => Ok(()),
            _ => Err(Code::InvalidTxnState),
        }
    }

    /// Writes the decision, then carries it out.
    fn decide(&self, id: &str, mut txn: TxnMeta, kind: Marker) -> KResult<()> {
        txn.updated_ms = crate::now_ms();
        let is_durable = kind == Marker::Commit && self.config.fsync != Fsync::Never;
        if is_durable {
            self.sync_partitions(&txn)?;
        }
        txn.status = match kind {
            Marker::Abort => TxnStatus::PrepareAbort,
            Marker::Commit => TxnStatus::PrepareCommit,
        };
        self.store_txn(id, &txn)?;
        if is_durable {
            self.sync_meta().map_err(storage)?;
        }
        self.finish(id, txn, kind)
    }

    /// A commit must not outlive its records.
    fn sync_partitions(&self, txn: &TxnMeta) -> KResult<()> {
        for (topic, index) in &txn.partitions {
            let Ok(partition) = self.topics.partition(topic, *index) else {
                continue;
            };
            partition.flush().map_err(storage)?;
        }
        Ok(())
    }

    /// Carries a decision out; may be repeated after a failure at any point.
    fn finish(&self, id: &str, mut txn: TxnMeta, kind: Marker) -> KResult<()> {
        let (producer_id, epoch) = (txn.producer_id, txn.epoch);
        for (topic, partition) in std::mem::take(&mut txn.partitions) {
            let Some(offset) = self.mark((producer_id, epoch), (&topic, partition), kind)? else { continue };
            txn.markers.retain(|m| m.topic != topic || m.partition != partition);
            let is_commit = kind == Marker::Commit;
            txn.markers.push(WrittenMarker { topic, partition, offset, producer_id, epoch, is_commit });
        }
        if kind == Marker::Commit {
            let mut by_group: HashMap<String, Vec<(String, i32, CommittedOffset)>> = HashMap::new();
            for o in txn.offsets.drain(..) {
                let of_group = by_group.entry(o.group).or_default();
                of_group.push((o.topic, o.partition, o.committed));
            }
            for (group, offsets) in by_group {
                let change = Change::Offsets { group, offsets };
                let mut meta = self.meta.lock();
                meta.commit(change, Durability::Cached).map_err(storage)?;
            }
        }
        txn.status = match kind {
            Marker::Commit => TxnStatus::Committed,
            Marker::Abort => TxnStatus::Aborted,
        };
        txn.groups.clear();
        txn.offsets.clear();
        self.store_txn(id, &txn)
    }

    /// Ends a producer's transaction in one partition, if it has one there; the marker's offset.
    fn mark(&self, producer: ProducerEpoch, at: (&str, i32), kind: Marker) -> KResult<Option<i64>> {
        let (Some(topic), Ok(partition)) = (self.topics.get(at.0), self.topics.partition(at.0, at.1)) else {
            return Ok(None);
        };
        let settings = topic.settings();
        let rules = settings.append_rules(crate::now_ms());
        let mut log = partition.log.lock();
        let is_open = log.producers().is_open(producer.0);
        let marked = is_open.then(|| log.append_marker(producer, kind, &rules)).transpose();
        drop(log);
        partition.waiters.wake();
        match marked {
            Err(Code::UnknownTopicOrPartition) => Ok(None),
            other => other,
        }
    }

    /// Ends a transaction that hangs in a partition, on an administrator's word (KIP-664).
    ///
    /// # Errors
    /// `UnknownTopicOrPartition`, `InvalidProducerEpoch` for a producer that was replaced, `KafkaStorageError`.
    pub fn end_hanging(&self, producer: ProducerEpoch, at: (&str, i32), kind: Marker) -> KResult<()> {
        let partition = self.topics.partition(at.0, at.1)?;
        let known = partition.log.lock().producers().epoch(producer.0);
        if known.is_some_and(|epoch| producer.1 < epoch) {
            return Err(Code::InvalidProducerEpoch);
        }
        self.mark(producer, at, kind).map(drop)
    }

    /// Ends a transaction under a new epoch, so that its producer is fenced.
    fn abort_and_fence(&self, id: &str, mut txn: TxnMeta) -> KResult<TxnMeta> {
        txn.epoch = txn.epoch.saturating_add(1);
        self.decide(id, txn, Marker::Abort)?;
        self.txn(id)
    }

    /// Aborts transactions that took too long, finishes those that could not be, and forgets ids
    /// that are not used; blocks.
    pub fn expire_txns(&self, now_ms: i64) {
        let is_due = |t: &TxnMeta| match t.status {
            TxnStatus::Ongoing => t.begun_ms + i64::from(t.timeout_ms) < now_ms,
            TxnStatus::PrepareCommit | TxnStatus::PrepareAbort => true,
            TxnStatus::Empty | TxnStatus::Committed | TxnStatus::Aborted => t.updated_ms < now_ms - ID_EXPIRY_MS,
        };
        let due: Vec<String> = {
            let meta = self.meta.lock();
            let txns = meta.state().txns.iter();
            txns.filter(|(_, t)| is_due(t)).map(|(id, _)| id.clone()).collect()
        };
        for id in due {
            let lock = self.txns.lock_of(&id);
            let _one_at_a_time = lock.lock();
            let Ok(txn) = self.txn(&id) else { continue };
            if !is_due(&txn) {
                continue;
            }
            let outcome = match txn.status {
                TxnStatus::Ongoing => self.abort_and_fence(&id, txn).map(|_| ()),
                TxnStatus::PrepareCommit => self.finish(&id, txn, Marker::Commit),
                TxnStatus::PrepareAbort => self.finish(&id, txn, Marker::Abort),
                TxnStatus::Empty | TxnStatus::Committed | TxnStatus::Aborted => {
                    let change = Change::TxnDeleted { id: id.clone() };
                    let mut meta = self.meta.lock();
                    meta.commit(change, Durability::Cached).map_err(storage)
                }
            };
            if let Err(code) = outcome {
                tracing::warn!(id, %code, "an overdue transaction is left");
            }
        }
    }
}
