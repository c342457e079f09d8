//! The rows of a batch on their way through a pipeline's steps.

use arrow_array::{BooleanArray, RecordBatch, cast::AsArray, types::TimestampMillisecondType};
use arrow_select::filter::filter_record_batch;

use crate::{
    record::{KeyHashes, Keys},
    watermark::Progress,
};

/// What the steps of a pipeline know of a batch besides its rows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchInfo<'a> {
    /// Name of the stream.
    pub(crate) stream: &'a str,
    pub(crate) topic: &'a str,
    pub(crate) partition: i32,
    /// Number of the log among those of the topic.
    pub(crate) log: i64,
    /// Column of the stream's key.
    pub(crate) key: usize,
    /// Column of the event time.
    pub(crate) event_time: usize,
    /// Offsets of the decoded records.
    pub(crate) offsets: &'a [i64],
    /// The watermark around each decoded record.
    pub(crate) progress: &'a Progress,
    /// Records below this offset have had their effects: they feed the state only.
    pub(crate) emit_from: i64,
}

/// The rows of a batch that are still there, with the columns that the steps so far have made.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) batch: RecordBatch,
    /// Place of each row among the decoded records; none while all of them are there.
    origins: Option<Vec<usize>>,
    key_hashes: KeyHashes,
}

/// A batch as a step that keeps state sees it: the rows that came through the filters before it, and where they come from.
#[derive(Clone, Copy)]
pub(crate) struct StepInput<'a> {
    pub(crate) batch: &'a RecordBatch,
    /// Event times of the rows.
    pub(crate) times: &'a [i64],
    /// Place of each row among the decoded records; none while all of them are there.
    pub(crate) origins: Option<&'a [usize]>,
    pub(crate) info: BatchInfo<'a>,
}

impl StepInput<'_> {
    /// Place of a row among the decoded records.
    pub(crate) fn origin(&self, row: usize) -> usize {
        self.origins.map_or(row, |origins| origins[row])
    }
}

impl Rows {
    /// All decoded records of a batch.
    pub(crate) fn all(batch: RecordBatch) -> Self {
        Self { batch, origins: None, key_hashes: KeyHashes::new() }
    }

    /// Place of a row among the decoded records.
    pub(crate) fn origin(&self, row: usize) -> usize {
        self.origins.as_ref().map_or(row, |origins| origins[row])
    }

    /// The rows as a step that keeps state sees them.
    pub(crate) fn input<'a>(&'a self, info: &BatchInfo<'a>) -> StepInput<'a> {
        let times = event_times(&self.batch, info.event_time);
        StepInput { batch: &self.batch, times, origins: self.origins.as_deref(), info: *info }
    }

    /// Keys of the rows.
    pub(crate) fn keys(&self, info: &BatchInfo<'_>) -> Keys<'_> {
        Keys::of(self.batch.column(info.key).as_ref(), &self.key_hashes)
    }

    /// Keeps some rows and notes the offsets of the others.
    pub(crate) fn keep(&mut self, keep: &BooleanArray, offsets: &[i64], removed: &mut Vec<i64>) {
        if keep.true_count() == keep.len() {
            return;
        }
        let (kept, dropped): (Vec<usize>, Vec<usize>) = (0..keep.len()).partition(|row| keep.value(*row));
        removed.extend(dropped.into_iter().map(|row| offsets[self.origin(row)]));
        self.origins = Some(kept.into_iter().map(|row| self.origin(row)).collect());
        self.batch = filter_record_batch(&self.batch, keep).expect("the mask is as long as the batch");
        self.key_hashes.take();
    }
}

/// The event times of a batch.
pub(crate) fn event_times(batch: &RecordBatch, event_time: usize) -> &[i64] {
    batch.column(event_time).as_primitive::<TimestampMillisecondType>().values()
}
