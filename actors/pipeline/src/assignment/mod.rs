//! What happens when the group hands a partition to this process: fence, read position and state, make a slot.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use streamward_core::{
    output::StateChunk,
    partition::{PartitionState, PipelinePlan, StateError, WATERMARK},
    steps::rule::rule_from,
};

use crate::{
    logs::{LogIdentity, Logs},
    slot::{PartitionSlot, Reader, SlotStart, Slots},
    source::SourceError,
    store::{Assignment, PartitionKey, SinkStore, Start},
};

/// How long a revoked partition may take to get what was issued into storage.
const REVOKE_WAIT: Duration = Duration::from_secs(1);
/// How often it is looked whether storage has it.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// What to do where the log no longer holds the next offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnGap {
    Fail,
    Earliest,
}

/// Bounds of a partition's log.
#[derive(Debug, Clone, Copy)]
pub struct LogBounds {
    /// Oldest offset held.
    pub low: i64,
    /// Offset that the next record will get.
    pub high: i64,
}

/// Assigns and revokes partitions of one pipeline.
pub struct Assigner {
    pub sink: Arc<str>,
    pub topic: Arc<str>,
    pub plan: Arc<PipelinePlan>,
    pub slots: Arc<Slots>,
    pub store: Arc<dyn SinkStore>,
    pub logs: Arc<dyn Logs>,
    pub on_gap: OnGap,
    /// Runs storage's futures from the poll thread.
    pub runtime: tokio::runtime::Handle,
}

impl Assigner {
    /// Which log the topic is now.
    ///
    /// # Errors
    /// If the cluster does not say, or has no such topic.
    pub fn log(&self) -> Result<LogIdentity, SourceError> {
        let told = self.runtime.block_on(self.logs.ask(&self.topic)).map_err(SourceError::Client)?;
        told.log.ok_or_else(|| SourceError::Client(format!("topic {} does not exist", self.topic)))
    }

    /// Takes the partition over and returns the offset to fetch from; none where the log has a gap and `on_gap` is
    /// `fail`: that partition stands still, loudly, and the others go on.
    ///
    /// # Errors
    /// If storage does not answer, its state is damaged, or `reader` is not the newest.
    pub fn assigned(
        &self,
        reader: Reader,
        partition: i32,
        (log, bounds): (&LogIdentity, LogBounds),
    ) -> Result<Option<i64>, SourceError> {
        let superseded = || SourceError::Client(format!("partition {partition} belongs to a newer client"));
        if !self.slots.is_newest(reader) {
            return Err(superseded());
        }
        self.slots.reads(reader, log);
        let key = PartitionKey { sink: self.sink.clone(), topic: self.topic.clone(), partition };
        let assignment = self.runtime.block_on(self.store.assign(&key, log))?;
        let (emit_from, gap) = match self.position(&key, &assignment, bounds) {
            Ok(position) => position,
            Err(gap) => {
                self.slots.stop(reader, partition, gap.to_string());
                return Ok(None);
            }
        };
        let mut start = SlotStart {
            key,
            epoch: assignment.epoch,
            log: assignment.log,
            identity: log.clone(),
            emit_from,
            fetch_from: emit_from,
            state: PartitionState::new(&self.plan, self.topic.clone(), partition).of_log(assignment.log),
        };
        if assignment.position != Some(emit_from) {
            if assignment.position.is_some() {
                start.state = self.behind_gap((&start.key, &assignment), emit_from)?;
            }
            let begin = Start { epoch: assignment.epoch, log: assignment.log, position: emit_from, gap };
            self.runtime.block_on(self.store.start_at(&start.key, begin))?;
        } else if let Some(checkpoint) = &assignment.checkpoint {
            if checkpoint.next_offset >= bounds.low {
                start.state =
                    self.restore(&checkpoint.chunks, partition, assignment.newest_event_ms)?.of_log(assignment.log);
                start.fetch_from = checkpoint.next_offset;
            } else {
                tracing::warn!(%self.topic, partition, "the log no longer reaches back to the checkpoint: windows and rules begin anew");
                start.state = self.behind_gap((&start.key, &assignment), emit_from)?;
                start.fetch_from = bounds.low;
            }
        } else {
            if bounds.low > assignment.first_offset {
                tracing::warn!(%self.topic, partition, "the log no longer has all records, and there is no checkpoint: windows and rules begin anew");
                start.state = self.behind_gap((&start.key, &assignment), emit_from)?;
            }
            start.fetch_from = bounds.low;
        }
        if assignment.position == Some(emit_from) {
            start.state = start.state.with_decisions(assignment.decisions);
        }
        let fetch_from = start.fetch_from;
        match self.slots.assign(reader, start) {
            Some(_) => Ok(Some(fetch_from)),
            None => Err(superseded()),
        }
    }

    /// Ends the assignment, after a bounded wait for what was issued.
    pub fn revoked(&self, reader: Reader, partition: i32) {
        let Some(slot) = self.slots.of_reader(reader, partition) else { return };
        if !is_settled(&slot, REVOKE_WAIT) {
            tracing::warn!(%self.topic, partition, "the partition is given back before its last records are stored: its next owner reads them again");
        }
        self.slots.revoke(reader, partition);
    }

    /// The state behind a gap: windows begin anew, with the first that no record of before can belong to. Rules go on,
    /// unless records since the checkpoint are gone that they had judged: then they begin at `emit_from`, and alerts that
    /// fire are ended.
    fn behind_gap(
        &self,
        (key, assignment): (&PartitionKey, &Assignment),
        emit_from: i64,
    ) -> Result<PartitionState, SourceError> {
        let checkpoint = assignment.checkpoint.as_ref();
        let mut chunks = checkpoint.map_or_else(Vec::new, |checkpoint| checkpoint.chunks.clone());
        if checkpoint.map(|checkpoint| checkpoint.next_offset) != assignment.position {
            chunks.retain(|chunk| &*chunk.name == WATERMARK);
            chunks.extend(self.plan.rules().map(|rule| rule_from(rule.name(), emit_from)));
            self.runtime.block_on(self.store.begin_rules(key, assignment.log))?;
        }
        let restore = |chunks: &[StateChunk]| {
            let topic = self.topic.clone();
            PartitionState::behind_gap(&self.plan, topic, key.partition, chunks, assignment.newest_event_ms)
        };
        Ok(self.fitting(&chunks, key.partition, restore)?.of_log(assignment.log))
    }

    /// The stored state; steps whose settings changed are new.
    fn restore(
        &self,
        chunks: &[StateChunk],
        partition: i32,
        newest_event_ms: i64,
    ) -> Result<PartitionState, SourceError> {
        self.fitting(chunks, partition, |chunks| {
            PartitionState::restore(&self.plan, self.topic.clone(), partition, chunks, newest_event_ms)
        })
    }

    /// What `restore` makes of those chunks that fit the plan.
    fn fitting(
        &self,
        chunks: &[StateChunk],
        partition: i32,
        restore: impl Fn(&[StateChunk]) -> Result<PartitionState, StateError>,
    ) -> Result<PartitionState, SourceError> {
        let mut chunks = chunks.to_vec();
        loop {
            let error = match restore(&chunks) {
                Ok(state) => return Ok(state),
                Err(error) => error,
            };
            match &error {
                StateError::OtherPlan { chunk, .. } | StateError::UnknownChunk { chunk } => {
                    tracing::warn!(%self.topic, partition, "{error}: that step is new");
                    chunks.retain(|kept| *kept.name != **chunk);
                }
                StateError::Damaged { .. } | StateError::Version { .. } | StateError::NoWatermark => {
                    return Err(SourceError::Client(format!("restore the state of partition {partition}: {error}")));
                }
            }
        }
    }

    /// Stored position, or where to begin instead of it.
    fn position(
        &self,
        key: &PartitionKey,
        assignment: &Assignment,
        bounds: LogBounds,
    ) -> Result<(i64, Option<std::ops::Range<i64>>), SourceError> {
        let Some(position) = assignment.position else { return Ok((bounds.low, None)) };
        if (bounds.low..=bounds.high).contains(&position) {
            return Ok((position, None));
        }
        let gap = SourceError::Gap {
            topic: key.topic.to_string(),
            partition: key.partition,
            position,
            low: bounds.low,
            high: bounds.high,
        };
        match self.on_gap {
            OnGap::Fail => {
                tracing::error!(topic = %key.topic, partition = key.partition, "gap in the log: {gap}");
                Err(gap)
            }
            OnGap::Earliest => {
                let passed = position.min(bounds.low)..bounds.low;
                tracing::warn!(
                    topic = %key.topic,
                    partition = key.partition,
                    position,
                    "gap in the log: offsets {passed:?} are gone and are passed over; windows begin anew behind them"
                );
                Ok((bounds.low, Some(passed)))
            }
        }
    }
}

/// Waits until storage has what was issued for a partition, or nobody can store it any more; false if neither comes in time.
fn is_settled(slot: &PartitionSlot, at_most: Duration) -> bool {
    let until = Instant::now() + at_most;
    while slot.committed() < slot.processed() && !slot.is_revoked() {
        if Instant::now() >= until {
            return false;
        }
        std::thread::sleep(LOOK_EVERY);
    }
    true
}

#[cfg(test)]
mod refusals;
#[cfg(test)]
mod tests;
