//! What a recount says.

use serde::Serialize;

use crate::app::Finding;

/// Offsets named one by one in a report.
const MAX_NAMED: usize = 20;

/// The result of a recount.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    /// No partition differs, and none stands still.
    pub ok: bool,
    pub records: u64,
    pub stored: u64,
    pub dead: u64,
    pub filtered: u64,
    /// Dead letters that retention has removed.
    pub removed: u64,
    /// Accounted for, and compacted away since.
    pub compacted: u64,
    /// Records behind the stored position: not yet processed.
    pub pending: u64,
    /// What does not progress although it should; in the server that ran last where none runs now.
    pub standing_still: Vec<Finding>,
    pub partitions: Vec<PartitionReport>,
    /// Logs that are gone: the topic was deleted, made anew, or is read from another cluster now.
    pub earlier_logs: Vec<EarlierLog>,
}

/// What the database holds of a log that is gone.
#[derive(Debug, Serialize)]
pub struct EarlierLog {
    pub sink: String,
    pub topic: String,
    pub partition: i32,
    /// Its number among the logs of the topic.
    pub log: i64,
    /// Records that were stored, dead or filtered, retention apart.
    pub accounted: i64,
}

/// One partition's recount.
#[derive(Debug, Default, Serialize)]
pub struct PartitionReport {
    pub sink: String,
    pub topic: String,
    pub partition: i32,
    /// Offsets compared: from, up to.
    pub from: i64,
    pub to: i64,
    pub records: u64,
    pub stored: u64,
    pub dead: u64,
    pub filtered: u64,
    /// Dead letters that retention has removed.
    pub removed: u64,
    pub in_gaps: u64,
    /// Offsets that the broker declared lost to damage of its files; what is stored of them is stored.
    pub damaged: u64,
    /// Accounted for, and no longer in the log: a newer record of their key has replaced them, as the topic wants it.
    pub compacted: u64,
    pub pending: u64,
    /// In the log, nowhere in the database.
    pub missing: Difference,
    /// In more than one place.
    pub twice: Difference,
    /// In the database, not in the log.
    pub unknown: Difference,
}

/// Offsets that differ.
#[derive(Debug, Default, Serialize)]
pub struct Difference {
    pub count: u64,
    /// The first few.
    pub offsets: Vec<i64>,
}

impl Difference {
    pub(super) fn add(&mut self, offset: i64) {
        self.count += 1;
        if self.offsets.len() < MAX_NAMED {
            self.offsets.push(offset);
        }
    }
}

impl PartitionReport {
    fn differs(&self) -> bool {
        self.missing.count + self.twice.count + self.unknown.count > 0
    }
}

impl Report {
    /// Whether a partition differs.
    #[must_use]
    pub fn differs(&self) -> bool {
        self.partitions.iter().any(PartitionReport::differs)
    }

    /// Takes something that stands still now, or would in the next run.
    pub(super) fn stands_still(&mut self, finding: Finding) {
        self.ok = false;
        let is_known = |known: &Finding| {
            known.place.pipeline == finding.place.pipeline && known.place.partition == finding.place.partition
        };
        if !self.standing_still.iter().any(is_known) {
            self.standing_still.push(finding);
        }
    }

    pub(super) fn add(&mut self, partition: PartitionReport) {
        self.ok &= !partition.differs();
        self.records += partition.records;
        self.stored += partition.stored;
        self.dead += partition.dead;
        self.filtered += partition.filtered;
        self.removed += partition.removed;
        self.compacted += partition.compacted;
        self.pending += partition.pending;
        self.partitions.push(partition);
    }
}
