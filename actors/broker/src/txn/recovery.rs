//! What a restart has to do about transactions.

use std::collections::BTreeMap;

use crate::broker::Inner;
use crate::log::batch::Marker;
use crate::meta::{TxnMeta, TxnStatus, WrittenMarker};

impl Inner {
    /// Finishes what was decided when the broker last ended. After a loss of power logs and metadata may be of different
    /// moments, so it also writes markers that the logs lost, and ends transactions that the metadata lost.
    pub fn recover_txns(&self) {
        let txns = self.meta.lock().state().txns.clone();
        for marker in txns.values().flat_map(|txn| &txn.markers) {
            self.renew_marker(marker);
        }
        for (id, txn) in &txns {
            let kind = match txn.status {
                TxnStatus::PrepareCommit => Marker::Commit,
                TxnStatus::PrepareAbort => Marker::Abort,
                TxnStatus::Empty | TxnStatus::Ongoing | TxnStatus::Committed | TxnStatus::Aborted => continue,
            };
            if let Err(code) = self.finish(id, txn.clone(), kind) {
                tracing::error!(id, %code, "a decided transaction cannot be finished");
            }
        }
        self.abort_unknown(&txns);
    }

    /// Writes a marker again that is behind the end of its log.
    fn renew_marker(&self, marker: &WrittenMarker) {
        let at = (marker.topic.as_str(), marker.partition);
        let Ok(partition) = self.topics.partition(at.0, at.1) else { return };
        let last = partition.log.lock().producers().last_marker_offset(marker.producer_id);
        if last.is_some_and(|last| last >= marker.offset) {
            return;
        }
        let kind = if marker.is_commit { Marker::Commit } else { Marker::Abort };
        self.end_at_start((marker.producer_id, marker.epoch), at, kind);
    }

    /// Aborts what is open in a log and in no transaction that goes on.
    fn abort_unknown(&self, txns: &BTreeMap<String, TxnMeta>) {
        let open = txns.values().filter(|txn| txn.is_open());
        let known: BTreeMap<i64, &TxnMeta> = open.map(|txn| (txn.producer_id, txn)).collect();
        for topic in self.topics.all() {
            for (index, partition) in (0..).zip(topic.partitions().iter()) {
                let open = partition.log.lock().producers().open();
                for (producer_id, epoch) in open {
                    let place = (topic.name.clone(), index);
                    if known.get(&producer_id).is_some_and(|txn| txn.partitions.contains(&place)) {
                        continue;
                    }
                    self.end_at_start((producer_id, epoch), (&topic.name, index), Marker::Abort);
                }
            }
        }
    }

    fn end_at_start(&self, producer: (i64, i16), (topic, partition): (&str, i32), kind: Marker) {
        match self.mark(producer, (topic, partition), kind) {
            Ok(None) => {}
            Ok(Some(offset)) => {
                tracing::warn!(topic, partition, offset, ?kind, "ended a transaction that lost its end")
            }
            Err(code) => tracing::error!(topic, partition, %code, "an open transaction cannot be ended"),
        }
    }
}
