//! What one partition remembers, and what a batch does to it.

use std::{borrow::Cow, sync::Arc};

use arrow_array::{BooleanArray, RecordBatch, cast::AsArray, types::TimestampMillisecondType};
use arrow_select::filter::filter_record_batch;

use super::{
    decisions::Decisions,
    plan::{PipelinePlan, Step},
};
use crate::{
    output::{DeadLetter, Output, on_time, ranges},
    record::{KeyHashes, Keys, StepInput},
    rule::{Alerts, RuleInput, RuleState},
    stats::{last_seen, minute_deltas},
    watermark::{CLOCK_TOLERANCE_MS, NO_WATERMARK, Progress, Watermark},
    window::{Emitted, WindowState},
};

/// What one partition of a pipeline remembers between batches. Cheap to clone: large parts are shared until changed.
#[derive(Debug, Clone)]
pub struct PartitionState {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
    /// Number of the log among those of the topic: part of what makes an alert unique.
    pub(super) log: i64,
    /// Position after the last batch; unknown before the first.
    pub(super) covered: Option<i64>,
    pub(super) watermark: Watermark,
    pub(super) windows: Vec<WindowState>,
    pub(super) rules: Vec<RuleState>,
    /// Whether a step begins here of which no checkpoint tells yet.
    pub(super) begins_anew: bool,
    /// What was decided of the records that come next, until they have come.
    pub(super) decided: Option<Arc<Decisions>>,
}

/// The records of one batch after decoding.
#[derive(Debug, Clone)]
pub struct DecodedInput {
    /// Records that could be decoded, in log order.
    pub batch: RecordBatch,
    /// Offset of each of them.
    pub offsets: Vec<i64>,
    /// Log timestamp of each of them, in milliseconds since 1970 (UTC).
    pub log_timestamps: Vec<i64>,
    /// When they were read, where log timestamps are the producers' word: see [`RawBatch::read_at_ms`].
    ///
    /// [`RawBatch::read_at_ms`]: crate::batch::RawBatch::read_at_ms
    pub read_at_ms: Option<i64>,
    /// Records that could not be decoded.
    pub dead: Vec<DeadLetter>,
    /// Position before the batch.
    pub start: i64,
    /// Position after the batch.
    pub end: i64,
}

/// Why a batch was not processed; the state is as before.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError {
    /// Records that the state covers already came again: a fault of the caller.
    #[error("the state covers the log up to {covered}, but a batch starts at {start}")]
    Rewound { covered: i64, start: i64 },
}

/// The rows of a batch that are still there, and where they come from.
struct Rows {
    batch: RecordBatch,
    /// Place of each row among the decoded records; none while all of them are there.
    origins: Option<Vec<usize>>,
    key_hashes: KeyHashes,
}

/// What the steps of a batch have done so far.
#[derive(Default)]
struct Effects {
    removed: Vec<i64>,
    emitted: Emitted,
    alerts: Alerts,
    /// Places of the decoded records that are ahead.
    ahead: Vec<usize>,
}

impl PartitionState {
    /// The state of a partition that has seen nothing.
    #[must_use]
    pub fn new(plan: &PipelinePlan, topic: Arc<str>, partition: i32) -> Self {
        let windows = plan.windows().map(|_| WindowState::default()).collect();
        let rules = plan.rules().map(|_| RuleState::default()).collect();
        Self {
            topic,
            partition,
            log: 0,
            covered: None,
            watermark: Watermark::default(),
            windows,
            rules,
            begins_anew: false,
            decided: None,
        }
    }

    /// The same of another log of the topic; 0 is the first.
    #[must_use]
    pub fn of_log(self, log: i64) -> Self {
        Self { log, ..self }
    }

    /// The same, for records of which storage knows what was decided.
    #[must_use]
    pub fn with_decisions(self, decisions: Decisions) -> Self {
        Self { decided: (!decisions.known().is_empty()).then(|| Arc::new(decisions)), ..self }
    }

    /// What was decided of records that come next, if they have come before.
    #[must_use]
    pub fn decided(&self) -> Option<&Decisions> {
        self.decided.as_deref()
    }

    /// Whether a checkpoint is due with the next output, since a step begins here: after a kill it must not begin later,
    /// or windows in between would have no row.
    #[must_use]
    pub fn begins_anew(&self) -> bool {
        self.begins_anew
    }

    /// Position up to which the state covers the log; none before the first batch.
    #[must_use]
    pub fn covered(&self) -> Option<i64> {
        self.covered
    }

    /// Highest event time − `out_of_orderness`, in milliseconds, or `NO_WATERMARK`.
    #[must_use]
    pub fn watermark_ms(&self) -> i64 {
        self.watermark.value_ms()
    }

    /// Groups that all windows keep, and keys that all rules keep.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.windows.iter().map(WindowState::groups).sum(), self.rules.iter().map(RuleState::keys).sum())
    }

    /// Works in one batch and says what is to be stored for it.
    ///
    /// Records below `emit_from`, the stored position, have had their effects before: they feed the state only. The
    /// output then starts at `emit_from`; if the whole batch lies below, it is empty (`start == end`) and not for the
    /// sink.
    ///
    /// Which of them are ahead is decided anew only where it is not known: see [`PartitionState::with_decisions`].
    ///
    /// # Errors
    /// If the state covers the batch already; the state is then as before.
    ///
    /// # Panics
    /// If the batch does not have the plan's schema, or offsets and log timestamps are not as many as its rows.
    pub fn process(
        &mut self,
        plan: &PipelinePlan,
        input: &DecodedInput,
        emit_from: i64,
    ) -> Result<Output, ProcessError> {
        assert_eq!(input.offsets.len(), input.batch.num_rows(), "each record has an offset");
        if let Some(covered) = self.covered.filter(|covered| *covered > input.start) {
            return Err(ProcessError::Rewound { covered, start: input.start });
        }
        let (rows, effects) = self.run(plan, input, emit_from);
        self.covered = Some(input.end);
        if self.decided.as_ref().is_some_and(|decided| decided.known().end <= input.end) {
            self.decided = None;
        }
        Ok(self.output(plan, input, emit_from, (rows, effects)))
    }

    fn run(&mut self, plan: &PipelinePlan, input: &DecodedInput, emit_from: i64) -> (Rows, Effects) {
        let times = event_times(plan, &input.batch);
        let log_times = input.believed_log_times();
        let progress = self.watermark.observe_all(plan.watermark, times, |place| {
            let known = self.decided.as_ref().and_then(|decided| decided.is_ahead(input.offsets[place]));
            known.unwrap_or_else(|| plan.watermark.is_ahead(times[place], log_times[place]))
        });
        let mut rows = Rows { batch: input.batch.clone(), origins: None, key_hashes: KeyHashes::new() };
        let mut effects = Effects::default();
        for step in &plan.steps {
            match step {
                Step::Filter(condition) => {
                    let keep = condition.eval_filter(&rows.batch);
                    rows.keep(&keep, &input.offsets, &mut effects.removed);
                }
                Step::Window(place, window) => {
                    let step = rows.step(plan, &input.offsets, &progress, emit_from);
                    self.windows[*place].process(window, &step, plan.limits, &mut effects.emitted);
                }
                Step::Rule(place, rule) => {
                    let input = RuleInput {
                        stream: &plan.stream,
                        topic: &self.topic,
                        partition: self.partition,
                        log: self.log,
                        schema: &plan.schema,
                        keys: &Keys::of(rows.batch.column(plan.key).as_ref(), &rows.key_hashes),
                        step: rows.step(plan, &input.offsets, &progress, emit_from),
                    };
                    self.rules[*place].process(rule, &input, &mut effects.alerts);
                }
            }
        }
        effects.ahead = progress.ahead().to_vec();
        (rows, effects)
    }

    /// An output at `position` without effects.
    pub(super) fn empty_output(&self, plan: &PipelinePlan, position: i64) -> Output {
        let empty = Output::empty(self.topic.clone(), self.partition, position, plan.schema.arrow.clone());
        Output { newest_event_ms: self.newest_event_ms(plan, NO_WATERMARK), ..empty }
    }

    fn output(
        &self,
        plan: &PipelinePlan,
        input: &DecodedInput,
        emit_from: i64,
        (rows, effects): (Rows, Effects),
    ) -> Output {
        let Effects {
            mut removed, emitted: Emitted { rows: mut windows, mut missed }, alerts: mut found, ahead, ..
        } = effects;
        let mut offsets: Vec<i64> = (0..rows.batch.num_rows()).map(|row| input.offsets[rows.origin(row)]).collect();
        let first = offsets.partition_point(|offset| *offset < emit_from);
        let stored = rows.batch.slice(first, offsets.len() - first);
        offsets.drain(..first);
        let mut ahead: Vec<i64> = ahead.into_iter().map(|place| input.offsets[place]).collect();
        ahead.retain(|offset| *offset >= emit_from);
        let counted = on_time(&stored, &offsets, &ahead);
        removed.retain(|offset| *offset >= emit_from);
        removed.sort_unstable();
        windows.sort_by_key(|(offset, _)| *offset);
        missed.sort_by_key(|missed| missed.offset);
        found.transitions.sort_by_key(|transition| transition.offset);
        Output {
            start: emit_from.clamp(input.start, input.end),
            minutes: minute_deltas(&counted, plan.columns),
            seen: last_seen(&counted, plan.key, plan.columns.event_time),
            rows: stored,
            offsets,
            filtered: ranges(removed),
            dead: input.dead.iter().filter(|dead| dead.offset >= emit_from).cloned().collect(),
            windows: windows.into_iter().map(|(_, row)| row).collect(),
            alerts: found.transitions,
            missed,
            ahead,
            refused_keys: found.refused,
            ..self.empty_output(plan, input.end)
        }
    }
}

impl DecodedInput {
    /// The log timestamps as far as they can be believed: a producer's clock is right unless it is ahead of ours.
    fn believed_log_times(&self) -> Cow<'_, [i64]> {
        let Some(latest) = self.read_at_ms.map(|now| now.saturating_add(CLOCK_TOLERANCE_MS)) else {
            return Cow::Borrowed(&self.log_timestamps);
        };
        let is_believed = |time: i64| (0..=latest).contains(&time);
        if self.log_timestamps.iter().all(|time| is_believed(*time)) {
            return Cow::Borrowed(&self.log_timestamps);
        }
        self.log_timestamps.iter().map(|time| if is_believed(*time) { *time } else { latest }).collect()
    }
}

impl Rows {
    fn origin(&self, row: usize) -> usize {
        self.origins.as_ref().map_or(row, |origins| origins[row])
    }

    fn step<'a>(
        &'a self,
        plan: &PipelinePlan,
        offsets: &'a [i64],
        progress: &'a Progress,
        emit_from: i64,
    ) -> StepInput<'a> {
        let (batch, origins) = (&self.batch, self.origins.as_deref());
        StepInput { batch, times: event_times(plan, batch), origins, offsets, progress, emit_from }
    }

    /// Keeps some rows and notes the offsets of the others.
    fn keep(&mut self, keep: &BooleanArray, offsets: &[i64], removed: &mut Vec<i64>) {
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

fn event_times<'a>(plan: &PipelinePlan, batch: &'a RecordBatch) -> &'a [i64] {
    batch.column(plan.columns.event_time).as_primitive::<TimestampMillisecondType>().values()
}
