//! The books of pipelines: each offset that a position passes must be stored, dead or filtered, once.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use serde::Serialize;
use tokio::time::{Instant, sleep};

use super::{super::operations::PipelineView, LOOK_EVERY};

/// How long the books may take to agree after the recovery: position and counters move one after the other.
const SETTLE: Duration = Duration::from_secs(2);

/// What became of the records over the time of a drill.
#[derive(Debug, Serialize)]
pub struct Records {
    /// Offsets that the positions passed.
    passed: u64,
    /// Of these, stored, dead or filtered less than once.
    lost: u64,
    /// Stored, dead or filtered more than once.
    duplicated: u64,
    /// Times that a position went back.
    reordered: u64,
}

/// Positions and counters of some pipelines.
pub struct Books<'a> {
    pipelines: Vec<&'a PipelineView>,
    /// Sum of the positions at the beginning, and what was accounted for by then.
    begun: (i64, u64),
    /// By place of the pipeline and partition; one that is not assigned at the moment keeps its last.
    positions: BTreeMap<(usize, i32), i64>,
    went_back: u64,
}

impl<'a> Books<'a> {
    /// Opens the books.
    pub fn of(pipelines: Vec<&'a PipelineView>) -> Self {
        let mut books = Self { pipelines, begun: (0, 0), positions: BTreeMap::new(), went_back: 0 };
        // Positions and counters move one after the other: both are taken while neither moves.
        loop {
            let accounted = books.accounted();
            books.look();
            books.begun = (books.passed(), accounted);
            if books.accounted() == accounted {
                return books;
            }
        }
    }

    /// Sum of all positions.
    pub fn passed(&self) -> i64 {
        self.positions.values().sum()
    }

    /// Takes note of where the positions are.
    pub fn look(&mut self) {
        for (at, pipeline) in self.pipelines.iter().enumerate() {
            for slot in pipeline.slots.all() {
                let position = slot.committed();
                match self.positions.insert((at, slot.key.partition), position) {
                    Some(before) => self.went_back += u64::from(position < before),
                    // Assigned since: what lies before the assignment is no news.
                    None => self.begun.0 += slot.emit_from,
                }
            }
        }
    }

    /// The books once they agree, or as they stand after [`SETTLE`].
    pub async fn settled(mut self) -> Records {
        let deadline = Instant::now() + SETTLE;
        loop {
            self.look();
            let passed = u64::try_from(self.passed() - self.begun.0).unwrap_or(0);
            let accounted = self.accounted().saturating_sub(self.begun.1);
            if passed == accounted || Instant::now() >= deadline {
                return Records {
                    passed,
                    lost: passed.saturating_sub(accounted),
                    duplicated: accounted.saturating_sub(passed),
                    reordered: self.went_back,
                };
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn accounted(&self) -> u64 {
        let totals = self.pipelines.iter().map(|pipeline| pipeline.slots.totals());
        totals
            .flat_map(|totals| [&totals.stored, &totals.dead, &totals.filtered])
            .map(|t| t.load(Ordering::Relaxed))
            .sum()
    }
}
