//! The messages that the roles of a pipeline exchange, on one page.

use std::{sync::Arc, time::Instant};

use streamward_core::batch::RawBatch;
use streamward_kit::Culprit;

use crate::{slot::PartitionSlot, store::Pending};

/// Source → lane: records of one partition that follow those of the message before.
pub struct Work {
    pub slot: Arc<PartitionSlot>,
    pub batch: Arc<RawBatch>,
    /// Position before the batch.
    pub start: i64,
    /// Position after the batch.
    pub end: i64,
    /// The client gave its records before this moment.
    pub read_by: Instant,
}

impl Work {
    /// A record of it, as an exit report names it.
    pub fn culprit(&self, offset: i64) -> Culprit {
        Culprit { topic: self.slot.key.topic.clone(), partition: self.slot.key.partition, offset }
    }
}

/// Lane → sink: the effects of one batch or tick.
pub struct Store {
    pub slot: Arc<PartitionSlot>,
    pub pending: Arc<Pending>,
}

impl Store {
    /// Bytes that it keeps alive: the decoded rows and the records that they came from.
    pub fn bytes(&self) -> usize {
        let Pending { output, raw, .. } = &*self.pending;
        output.rows.get_array_memory_size() + raw.as_ref().map_or(0, |raw| raw.bytes())
    }
}
