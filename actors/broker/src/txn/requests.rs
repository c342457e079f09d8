//! What a transactional producer asks for before it ends its transaction.

use super::{MAX_IDS, MAX_TIMEOUT_MS, NO_EPOCH, ProducerEpoch};
use crate::broker::Inner;
use crate::error::{Code, KResult};
use crate::group::Identity;
use crate::meta::{TxnMeta, TxnOffset, TxnStatus};

/// Epoch after which a producer gets another id.
const LAST_EPOCH: i16 = i16::MAX - 1;

impl Inner {
    /// Gives a transactional producer its id and epoch; one that came before is fenced and its
    /// transaction aborted. `claimed` is who the producer is already (KIP-360), -1 if new.
    ///
    /// # Errors
    /// `InvalidTransactionTimeout`, `ProducerFenced` for one that was replaced, `PolicyViolation` for one more
    /// than [`MAX_IDS`], `KafkaStorageError`.
    pub fn init_txn_producer(&self, id: &str, timeout_ms: i32, claimed: ProducerEpoch) -> KResult<ProducerEpoch> {
        if !(1..=MAX_TIMEOUT_MS).contains(&timeout_ms) {
            return Err(Code::InvalidTransactionTimeout);
        }
        let lock = self.txns.lock_of(id);
        let _one_at_a_time = lock.lock();
        let mut txn = match self.txn(id) {
            Ok(known) => self.next_epoch(id, known, claimed)?,
            Err(_) if self.meta.lock().state().txns.len() >= MAX_IDS => return Err(Code::PolicyViolation),
            Err(_) => TxnMeta::new(self.new_producer_id()?, timeout_ms),
        };
        txn.timeout_ms = timeout_ms;
        txn.status = TxnStatus::Empty;
        txn.updated_ms = crate::now_ms();
        self.store_txn(id, &txn)?;
        Ok((txn.producer_id, txn.epoch))
    }

    /// A producer that says who it is gets the next epoch if it is the present one, and its answer again
    /// if that got lost; one that does not say replaces whoever there is.
    fn next_epoch(&self, id: &str, known: TxnMeta, claimed: ProducerEpoch) -> KResult<TxnMeta> {
        let is_new = claimed.0 < 0;
        if !is_new && claimed == (known.producer_id, known.last_epoch) && known.status == TxnStatus::Empty {
            return Ok(known);
        }
        if !is_new && claimed != (known.producer_id, known.epoch) {
            return Err(Code::ProducerFenced);
        }
        let mut txn = match known.status {
            TxnStatus::Ongoing => self.abort_and_fence(id, known)?,
            TxnStatus::PrepareCommit | TxnStatus::PrepareAbort => {
                return Err(Code::ConcurrentTransactions);
            }
            TxnStatus::Empty | TxnStatus::Committed | TxnStatus::Aborted => {
                TxnMeta { epoch: known.epoch.saturating_add(1), ..known }
            }
        };
        txn.last_epoch = if is_new { NO_EPOCH } else { claimed.1 };
        if txn.epoch < LAST_EPOCH {
            return Ok(txn);
        }
        Ok(TxnMeta::new(self.new_producer_id()?, txn.timeout_ms))
    }

    /// The state of a transaction that takes more work.
    fn open_txn(&self, id: &str, producer: ProducerEpoch) -> KResult<TxnMeta> {
        let mut txn = self.txn(id)?;
        txn.check(producer)?;
        match txn.status {
            TxnStatus::PrepareCommit | TxnStatus::PrepareAbort => {
                return Err(Code::ConcurrentTransactions);
            }
            TxnStatus::Empty | TxnStatus::Ongoing | TxnStatus::Committed | TxnStatus::Aborted => {}
        }
        txn.begin();
        Ok(txn)
    }

    /// Takes partitions into a transaction, beginning it where needed.
    ///
    /// # Errors
    /// Why the producer is not the present one, `KafkaStorageError`.
    pub fn add_txn_partitions(&self, id: &str, producer: ProducerEpoch, partitions: Vec<(String, i32)>) -> KResult<()> {
        let lock = self.txns.lock_of(id);
        let _one_at_a_time = lock.lock();
        let mut txn = self.open_txn(id, producer)?;
        txn.partitions.extend(partitions);
        self.store_txn(id, &txn)
    }

    /// Takes a group's offsets into a transaction, beginning it where needed.
    ///
    /// # Errors
    /// As [`Self::add_txn_partitions`].
    pub fn add_txn_group(&self, id: &str, producer: ProducerEpoch, group: &str) -> KResult<()> {
        let lock = self.txns.lock_of(id);
        let _one_at_a_time = lock.lock();
        let mut txn = self.open_txn(id, producer)?;
        txn.groups.insert(group.to_owned());
        self.store_txn(id, &txn)
    }

    /// Stores offsets that are committed if the transaction is.
    ///
    /// # Errors
    /// What the group's member must know, `InvalidTxnState` when the group is not in the
    /// transaction, and those of [`Self::add_txn_partitions`].
    pub fn add_txn_offsets(
        &self,
        id: &str,
        producer: ProducerEpoch,
        of: (&str, &Identity),
        offsets: Vec<TxnOffset>,
    ) -> KResult<()> {
        let (group, identity) = of;
        let lock = self.txns.lock_of(id);
        let _one_at_a_time = lock.lock();
        let mut txn = self.txn(id)?;
        txn.check(producer)?;
        if txn.status != TxnStatus::Ongoing || !txn.groups.contains(group) {
            return Err(Code::InvalidTxnState);
        }
        self.groups.check_txn_commit(group, identity)?;
        for offset in offsets {
            txn.offsets
                .retain(|o| o.partition != offset.partition || o.topic != offset.topic || o.group != offset.group);
            txn.offsets.push(offset);
        }
        self.store_txn(id, &txn)
    }
}
