//! The messages that the roles of a pipeline exchange, on one page.

use std::{sync::Arc, time::Instant};

use streamward_core::{batch::RawBatch, output::DeadLetter};
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
    /// Bytes that it keeps alive: the decoded rows, the records that they came from, the copies that dead letters are, and
    /// state.
    pub fn bytes(&self) -> usize {
        let Pending { output, raw, .. } = &*self.pending;
        let dead: usize = output.dead.iter().map(DeadLetter::bytes).sum();
        let state: usize = output.checkpoint.iter().map(|chunk| chunk.bytes.len()).sum();
        let rows = output.shown().0.get_array_memory_size();
        rows + raw.as_ref().map_or(0, |raw| raw.footprint()) + dead + state
    }
}

#[cfg(test)]
mod tests {
    use streamward_core::{
        output::{ErrorClass, Output, StateChunk},
        partition::{CheckpointScope, PartitionState},
    };

    use super::*;
    use crate::{
        lane::tests::{orders, plan},
        slot::{self, Slots},
    };

    #[test]
    fn an_output_weighs_its_records_its_dead_letters_and_its_state() {
        let (slots, plan) = (Slots::default(), plan());
        let slot = slots.assign(slots.begin_reading(), slot::tests::start(0)).unwrap();
        let raw = orders(0..6);
        let weigh = |raw: Option<Arc<RawBatch>>, dead: Vec<DeadLetter>, checkpoint: Vec<StateChunk>| {
            let empty = Output::empty("orders".into(), 0, 6, plan.schema().arrow.clone());
            let output = Output { dead, checkpoint, ..empty };
            let pending = Pending { key: slot.key.clone(), epoch: 1, log: 0, output, beside: Vec::new(), raw };
            Store { slot: slot.clone(), pending: Arc::new(pending) }.bytes()
        };
        let letter = DeadLetter {
            offset: 0,
            log_timestamp_ms: 0,
            class: ErrorClass::Decode,
            reason: "no".to_owned(),
            stage: "decode".to_owned(),
            key: Some(vec![0; 10]),
            value: Some(vec![0; 1_000]),
            headers: vec![(vec![0; 3], None), (vec![0; 4], Some(vec![0; 5]))],
        };
        let empty = weigh(None, Vec::new(), Vec::new());
        assert_eq!(weigh(Some(raw.clone()), Vec::new(), Vec::new()) - empty, raw.footprint());
        assert_eq!(weigh(None, vec![letter.clone(), letter], Vec::new()) - empty, 2 * 1_022);
        let chunks = PartitionState::new(&plan, "orders".into(), 0).checkpoint(CheckpointScope::Full);
        let bytes = chunks[0].bytes.len();
        assert!(bytes > 0 && weigh(None, Vec::new(), chunks) - empty == bytes);
    }
}
