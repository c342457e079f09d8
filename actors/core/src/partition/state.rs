//! What one partition remembers, and what a batch does to it.

use std::{borrow::Cow, sync::Arc};

use arrow_array::RecordBatch;

use super::{decisions::Decisions, plan::PipelinePlan};
use crate::{
    chunk::StateError,
    output::{DeadLetter, Output, on_time, ranges},
    rows::{BatchInfo, Rows, event_times},
    stats::{last_seen, minute_deltas},
    steps::{Effects, Size, Start, StepState, rule::Alerts, window::Emitted},
    watermark::{CLOCK_TOLERANCE_MS, Watermark},
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
    /// Of each step of the plan, in its order.
    pub(super) steps: Vec<Box<dyn StepState>>,
    /// Whether it begins behind a gap of which no checkpoint tells yet.
    pub(super) is_behind_gap: bool,
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

/// A batch behind all steps.
struct Worked {
    rows: Rows,
    effects: Effects,
    /// Places of the decoded records that are ahead.
    ahead: Vec<usize>,
}

impl PartitionState {
    /// The state of a partition that has seen nothing.
    ///
    /// # Panics
    /// Never: without a checkpoint there is none to be damaged.
    #[must_use]
    pub fn new(plan: &PipelinePlan, topic: Arc<str>, partition: i32) -> Self {
        let from = (Start::NOTHING, None);
        Self::start(plan, (topic, partition), from).expect("there is no checkpoint to be damaged")
    }

    /// The state of a partition whose steps start there, behind a checkpoint that covers the log up to `covered`.
    pub(super) fn start(
        plan: &PipelinePlan,
        (topic, partition): (Arc<str>, i32),
        (start, covered): (Start<'_>, Option<i64>),
    ) -> Result<Self, StateError> {
        let steps = plan.steps.iter().map(|step| step.clone().start(&start)).collect::<Result<_, _>>()?;
        let watermark = Watermark::at(start.watermark_ms);
        Ok(Self { topic, partition, log: 0, covered, watermark, steps, is_behind_gap: false, decided: None })
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
        self.is_behind_gap || self.steps.iter().any(|step| step.begins_anew())
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

    /// How much all steps keep.
    #[must_use]
    pub fn size(&self) -> Size {
        self.steps.iter().map(|step| step.size()).sum()
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
        let worked = self.run(plan, input, emit_from);
        self.covered = Some(input.end);
        if self.decided.as_ref().is_some_and(|decided| decided.known().end <= input.end) {
            self.decided = None;
        }
        Ok(self.output(plan, input, emit_from, worked))
    }

    fn run(&mut self, plan: &PipelinePlan, input: &DecodedInput, emit_from: i64) -> Worked {
        let times = event_times(&input.batch, plan.columns.event_time);
        let log_times = input.believed_log_times();
        let progress = self.watermark.observe_all(plan.watermark, times, |place| {
            let known = self.decided.as_ref().and_then(|decided| decided.is_ahead(input.offsets[place]));
            known.unwrap_or_else(|| plan.watermark.is_ahead(times[place], log_times[place]))
        });
        let info = BatchInfo {
            stream: &plan.stream,
            topic: &self.topic,
            partition: self.partition,
            log: self.log,
            key: plan.key,
            event_time: plan.columns.event_time,
            offsets: &input.offsets,
            progress: &progress,
            emit_from,
        };
        let (mut rows, mut effects) = (Rows::all(input.batch.clone()), Effects::default());
        for step in &mut self.steps {
            step.process(&mut rows, &info, &mut effects);
        }
        Worked { rows, effects, ahead: progress.ahead().to_vec() }
    }

    /// An output at `position` without effects.
    pub(super) fn empty_output(&self, plan: &PipelinePlan, position: i64) -> Output {
        let empty = Output::empty(self.topic.clone(), self.partition, position, plan.schema.arrow.clone());
        Output { newest_event_ms: plan.watermark().newest_event_ms(self.watermark.value_ms()), ..empty }
    }

    fn output(
        &self,
        plan: &PipelinePlan,
        input: &DecodedInput,
        emit_from: i64,
        Worked { rows, effects, ahead }: Worked,
    ) -> Output {
        let Effects { mut removed, emitted, alerts } = effects;
        let Emitted { rows: mut windows, mut missed } = emitted;
        let Alerts { mut transitions, refused } = alerts;
        let mut offsets: Vec<i64> = (0..rows.batch.num_rows()).map(|row| input.offsets[rows.origin(row)]).collect();
        let first = offsets.partition_point(|offset| *offset < emit_from);
        let stored = rows.batch.slice(first, offsets.len() - first);
        offsets.drain(..first);
        let mut ahead: Vec<i64> = ahead.into_iter().map(|place| input.offsets[place]).collect();
        ahead.retain(|offset| *offset >= emit_from);
        removed.retain(|offset| *offset >= emit_from);
        windows.sort_by_key(|(offset, _)| *offset);
        missed.sort_by_key(|missed| missed.offset);
        transitions.sort_by_key(|transition| transition.offset);
        let empty = self.empty_output(plan, input.end);
        let of_rows = if plan.store {
            let counted = on_time(&stored, &offsets, &ahead);
            let minutes = minute_deltas(&counted, plan.columns);
            let seen = last_seen(&counted, plan.key, plan.columns.event_time);
            Output { minutes, seen, rows: stored, offsets, ..empty }
        } else {
            removed.extend(&offsets);
            Output { unstored: Some((stored, offsets)), ..empty }
        };
        removed.sort_unstable();
        Output {
            start: emit_from.clamp(input.start, input.end),
            filtered: ranges(removed),
            dead: input.dead.iter().filter(|dead| dead.offset >= emit_from).cloned().collect(),
            windows: windows.into_iter().map(|(_, row)| row).collect(),
            alerts: transitions,
            missed,
            ahead,
            refused_keys: refused,
            ..of_rows
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
