//! The books of pipelines: each offset that a stored position passes must be stored, dead or filtered, once.
//!
//! Position and counts are read from storage, where one transaction moves both. What the actors believe is of no use
//! here: a commit whose sink died before it heard of it is counted by none of them.

use std::collections::BTreeMap;

use serde::Serialize;
use streamward_core::ports::{OpsError, PositionRow, ReadStore};

use super::super::operations::PipelineView;

/// What became of the records over the time of a drill.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
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

/// Positions and counts of some pipelines.
pub struct Books<'a> {
    pipelines: Vec<&'a PipelineView>,
    reads: &'a dyn ReadStore,
    begun: Vec<PositionRow>,
    /// By place of the pipeline and partition; one that is not assigned at the moment keeps its last.
    positions: BTreeMap<(usize, i32), i64>,
    went_back: u64,
}

impl<'a> Books<'a> {
    /// Opens the books.
    ///
    /// # Errors
    /// If storage does not answer.
    pub async fn open(pipelines: Vec<&'a PipelineView>, reads: &'a dyn ReadStore) -> Result<Self, OpsError> {
        let begun = rows(&pipelines, reads).await?;
        let mut books = Self { pipelines, reads, begun, positions: BTreeMap::new(), went_back: 0 };
        books.look();
        Ok(books)
    }

    /// Sum of the positions at the last look.
    pub fn passed(&self) -> i64 {
        self.positions.values().sum()
    }

    /// Takes note of where the positions are.
    pub fn look(&mut self) {
        for (at, pipeline) in self.pipelines.iter().enumerate() {
            for (partition, position) in pipeline.slots.committed_positions() {
                let before = self.positions.insert((at, partition), position);
                self.went_back += u64::from(before.is_some_and(|before| position < before));
            }
        }
    }

    /// What became of the records since the books were opened.
    ///
    /// # Errors
    /// If storage does not answer.
    pub async fn close(mut self) -> Result<Records, OpsError> {
        self.look();
        let now = rows(&self.pipelines, self.reads).await?;
        Ok(balance(&self.begun, &now, self.went_back))
    }
}

async fn rows(pipelines: &[&PipelineView], reads: &dyn ReadStore) -> Result<Vec<PositionRow>, OpsError> {
    let mut rows = reads.positions().await.map_err(|error| OpsError::Unavailable(error.to_string()))?;
    rows.retain(|row| pipelines.iter().any(|pipeline| *pipeline.name == *row.sink));
    Ok(rows)
}

fn balance(begun: &[PositionRow], now: &[PositionRow], went_back: u64) -> Records {
    let mut records = Records { reordered: went_back, ..Records::default() };
    for row in now {
        // A topic that was created again has a new log, with a position and counts of its own.
        let place = |row: &PositionRow| (row.sink.clone(), row.topic.clone(), row.partition, row.log);
        let before = begun.iter().find(|old| place(old) == place(row));
        let position = before.map_or(row.first_offset, |old| old.next_offset);
        let passed = u64::try_from(row.next_offset - position);
        let counted = u64::try_from(accounted(row) - before.map_or(0, accounted)).unwrap_or(0);
        records.reordered += u64::from(passed.is_err());
        let passed = passed.unwrap_or(0);
        records.passed += passed;
        records.lost += passed.saturating_sub(counted);
        records.duplicated += counted.saturating_sub(passed);
    }
    records
}

fn accounted(row: &PositionRow) -> i64 {
    row.stored + row.dead + row.filtered
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(partition: i32, next_offset: i64, (stored, dead, filtered): (i64, i64, i64)) -> PositionRow {
        PositionRow {
            sink: "sensors".to_owned(),
            topic: "sensor-readings".to_owned(),
            partition,
            log: 1,
            epoch: 1,
            next_offset,
            first_offset: 100,
            retained_from: 100,
            stored,
            dead,
            filtered,
            ahead: 0,
            late: 0,
            full: 0,
            updated_at_ms: 0,
        }
    }

    #[test]
    fn offsets_are_stored_dead_or_filtered_once() {
        let begun = [row(0, 110, (10, 0, 0))];
        let exact = [row(0, 120, (15, 2, 3)), row(1, 104, (4, 0, 0))];
        assert_eq!(balance(&begun, &exact, 0), Records { passed: 14, ..Records::default() });
    }

    #[test]
    fn what_is_missing_in_one_partition_is_not_made_up_for_by_another() {
        let begun = [row(0, 110, (10, 0, 0)), row(1, 110, (10, 0, 0))];
        let now = [row(0, 115, (14, 0, 0)), row(1, 115, (15, 1, 0))];
        assert_eq!(balance(&begun, &now, 0), Records { passed: 10, lost: 1, duplicated: 1, reordered: 0 });
    }

    #[test]
    fn a_position_that_went_back_is_said() {
        let (begun, now) = ([row(0, 110, (10, 0, 0))], [row(0, 105, (10, 0, 0))]);
        assert_eq!(balance(&begun, &now, 1).reordered, 2);
    }
}
