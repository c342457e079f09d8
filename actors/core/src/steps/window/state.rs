//! The windows of one step in one partition.

use std::sync::Arc;

use arrow_array::ArrayRef;
use serde::{Deserialize, Serialize};

use super::{
    accumulate::{Input, Placed},
    keys::RowKeys,
    pane::{Pane, PaneBody},
    plan::WindowPlan,
};
use crate::{
    output::{Missed, MissedRecord, WindowRow},
    rows::StepInput,
    watermark::NO_WATERMARK,
};

/// Bounds of a window step's state in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Groups of all windows that are not gone.
    pub groups: usize,
    /// Bytes of their keys.
    pub key_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { groups: 500_000, key_bytes: 64 * 1_024 * 1_024 }
    }
}

/// All windows of a step that are not gone. Cheap to clone: windows are shared until one of the clones changes them.
#[derive(Debug, Clone)]
pub struct WindowState {
    /// By start; the closed ones come first, as the watermark passes ends in order.
    windows: Vec<Entry>,
    closed: usize,
    groups: usize,
    key_bytes: usize,
    /// Watermark at which the next window closes or goes.
    next_event: i64,
    /// Windows that start before are not this state's: it has not seen all of their records.
    begins_at: i64,
    /// The window of the next record may miss records.
    is_behind_unseen: bool,
    changed: bool,
}

#[derive(Debug, Clone)]
struct Entry {
    start_ms: i64,
    pane: Arc<Pane>,
    /// Records of the current run; empty between batches.
    run: Vec<Placed>,
}

/// What a checkpoint keeps of a step.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct WindowBody {
    windows: Vec<(i64, PaneBody)>,
}

impl WindowBody {
    /// Starts of the windows with records that are in no row yet.
    pub(crate) fn unwritten(&self) -> impl Iterator<Item = i64> {
        self.windows.iter().filter(|(_, pane)| pane.has_changed()).map(|(start_ms, _)| *start_ms)
    }
}

/// What window steps emitted for a batch, each with the offset of the record that triggered it.
#[derive(Debug, Default)]
pub(crate) struct Emitted {
    pub(crate) rows: Vec<(i64, WindowRow)>,
    pub(crate) missed: Vec<MissedRecord>,
}

/// A batch with what the plan computes of it.
struct Work<'a> {
    plan: &'a WindowPlan,
    input: &'a StepInput<'a>,
    arguments: Vec<Input<'a>>,
    keys: RowKeys,
}

impl Default for WindowState {
    fn default() -> Self {
        Self {
            windows: Vec::new(),
            closed: 0,
            groups: 0,
            key_bytes: 0,
            next_event: i64::MAX,
            begins_at: i64::MIN,
            is_behind_unseen: false,
            // Also nothing is worth a checkpoint: without one, a step is new.
            changed: true,
        }
    }
}

impl WindowState {
    /// Groups of all windows that are not gone.
    #[must_use]
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Works a batch into the windows. A record whose group finds no room is refused alone.
    pub(crate) fn process(&mut self, plan: &WindowPlan, input: &StepInput<'_>, out: &mut Emitted) {
        let group_columns: Vec<ArrayRef> =
            plan.group.iter().map(|(index, _)| input.batch.column(*index).clone()).collect();
        let arguments: Vec<ArrayRef> = plan.arguments.iter().map(|argument| argument.eval(input.batch)).collect();
        let keys = RowKeys::of(&group_columns, input.times.len());
        let work = Work { plan, input, arguments: arguments.iter().map(Input::of).collect(), keys };
        let mut latest = 0;
        for (row, &time) in input.times.iter().enumerate() {
            let origin = input.origin(row);
            let watermark = input.info.progress.before(origin);
            if watermark >= self.next_event {
                self.advance(&work, watermark, out);
                latest = 0;
            }
            let start_ms = plan.start_of(time);
            if input.info.progress.is_ahead(origin) {
                work.miss(row, start_ms, Missed::Ahead, out);
                continue;
            }
            if std::mem::take(&mut self.is_behind_unseen) {
                self.begins_at = self.begins_at.max(plan.end_of(start_ms));
            }
            if plan.gone_at(start_ms) <= watermark {
                work.miss(row, start_ms, Missed::Late, out);
                continue;
            }
            if start_ms < self.begins_at {
                work.miss(row, start_ms, Missed::Begun, out);
                continue;
            }
            if self.is_full(&work, start_ms, row) {
                work.miss(row, start_ms, Missed::Full, out);
                continue;
            }
            latest = self.window_at(plan, start_ms, watermark, latest);
            let placed = self.place(&work, latest, row);
            if latest < self.closed {
                self.revise(&work, latest, placed, out);
            } else {
                self.windows[latest].run.push(placed);
            }
        }
        self.advance(&work, input.info.progress.last(), out);
        self.changed |= !input.times.is_empty();
    }

    /// Whether the record needs a group that does not exist yet, and there is no room for it.
    fn is_full(&self, work: &Work<'_>, start_ms: i64, row: usize) -> bool {
        let (hash, key) = work.keys.get(row);
        let has_room =
            self.groups < work.plan.limits.groups && self.key_bytes + key.len() <= work.plan.limits.key_bytes;
        if has_room {
            return false;
        }
        let window = self.windows.binary_search_by_key(&start_ms, |entry| entry.start_ms);
        window.ok().and_then(|index| self.windows[index].pane.find(hash, key)).is_none()
    }

    /// Index of the window that starts at `start_ms`, made if needed; `hint` is tried first.
    fn window_at(&mut self, plan: &WindowPlan, start_ms: i64, watermark: i64, hint: usize) -> usize {
        if self.windows.get(hint).is_some_and(|entry| entry.start_ms == start_ms) {
            return hint;
        }
        let found = self.windows.binary_search_by_key(&start_ms, |entry| entry.start_ms);
        let Err(index) = found else { return found.unwrap_or(hint) };
        self.windows.insert(index, Entry { start_ms, pane: Arc::new(Pane::new(plan)), run: Vec::new() });
        let (end, gone) = (plan.end_of(start_ms), plan.gone_at(start_ms));
        if end <= watermark {
            self.closed += 1;
            self.next_event = self.next_event.min(gone);
        } else {
            self.next_event = self.next_event.min(end);
        }
        index
    }

    /// The record's group in the window at `index`, made if needed.
    fn place(&mut self, work: &Work<'_>, index: usize, row: usize) -> Placed {
        let (hash, key) = work.keys.get(row);
        let pane = &mut self.windows[index].pane;
        let row = u32::try_from(row).expect("a batch is far below 4 billion records");
        if let Some(group) = pane.find(hash, key) {
            return (row, group);
        }
        self.groups += 1;
        self.key_bytes += key.len();
        (row, Arc::make_mut(pane).insert(hash, key))
    }

    /// Adds a record to a window that has closed and emits its group again.
    fn revise(&mut self, work: &Work<'_>, index: usize, placed: Placed, out: &mut Emitted) {
        let entry = &mut self.windows[index];
        let pane = Arc::make_mut(&mut entry.pane);
        pane.add(work.plan, &work.arguments, &[placed], work.input.times);
        let offset = work.input.info.offsets[work.input.origin(placed.0 as usize)];
        work.emit(pane, (entry.start_ms, placed.1), offset, out);
    }

    /// Works in the current run, then closes and drops what the watermark has passed.
    fn advance(&mut self, work: &Work<'_>, watermark: i64, out: &mut Emitted) {
        let Work { plan, input, arguments, .. } = work;
        for entry in self.windows.iter_mut().filter(|entry| !entry.run.is_empty()) {
            Arc::make_mut(&mut entry.pane).add(plan, arguments, &entry.run, input.times);
            entry.run.clear();
        }
        if watermark < self.next_event {
            return;
        }
        self.changed = true;
        while let Some(entry) = self.windows.get_mut(self.closed)
            && plan.end_of(entry.start_ms) <= watermark
        {
            let closer = input.info.progress.reached_by(plan.end_of(entry.start_ms));
            let offset = closer.map_or(i64::MIN, |index| input.info.offsets[index]);
            let pane = Arc::make_mut(&mut entry.pane);
            for group in pane.changed() {
                work.emit(pane, (entry.start_ms, group), offset, out);
            }
            self.closed += 1;
        }
        let gone = self.windows[..self.closed].partition_point(|entry| plan.gone_at(entry.start_ms) <= watermark);
        for entry in self.windows.drain(..gone) {
            self.groups -= entry.pane.groups();
            self.key_bytes -= entry.pane.key_bytes();
        }
        self.closed -= gone;
        self.next_event = self.find_next_event(plan);
    }

    fn find_next_event(&self, plan: &WindowPlan) -> i64 {
        let goes = self.windows[..self.closed].first().map(|entry| plan.gone_at(entry.start_ms));
        let closes = self.windows[self.closed..].first().map(|entry| plan.end_of(entry.start_ms));
        goes.into_iter().chain(closes).min().unwrap_or(i64::MAX)
    }

    /// The first moment of the wall clock at which [`WindowState::close_idle`] has something to emit, unless records come.
    pub(crate) fn closes_idle_at(&self, plan: &WindowPlan) -> Option<i64> {
        let changed = self.windows.iter().find(|entry| entry.pane.has_changed());
        changed.map(|entry| plan.end_of(entry.start_ms))
    }

    /// Emits what changed in windows that have ended by the wall clock, when no record comes to say so.
    ///
    /// The windows stay as they are and the watermark does not move: a later record revises the rows.
    pub fn close_idle(&mut self, plan: &WindowPlan, now_ms: i64) -> Vec<WindowRow> {
        let mut rows = Vec::new();
        for entry in self.windows.iter_mut().filter(|entry| plan.end_of(entry.start_ms) <= now_ms) {
            let changed = entry.pane.changed();
            if !changed.is_empty() {
                let pane = Arc::make_mut(&mut entry.pane);
                rows.extend(changed.into_iter().map(|group| pane.emit(plan, entry.start_ms, group)));
            }
        }
        self.changed |= !rows.is_empty();
        rows
    }

    /// An empty state of a step that begins in the middle of a log whose event times reached up to `newest_event_ms`, or
    /// [`NO_WATERMARK`]: with the first window that no record before can belong to.
    pub(crate) fn beginning_after(plan: &WindowPlan, newest_event_ms: i64) -> Self {
        if newest_event_ms == NO_WATERMARK {
            return Self::default();
        }
        Self { begins_at: plan.end_of(plan.start_of(newest_event_ms)), ..Self::default() }
    }

    /// Start of the first window that is this state's and still takes records at this watermark; none if all are.
    ///
    /// It is kept with the state: a longer lateness later on does not bring windows back that are gone.
    pub(crate) fn begins_at(&self, plan: &WindowPlan, watermark: i64) -> Option<i64> {
        let gone = (watermark != NO_WATERMARK).then(|| {
            let newest_gone = watermark.saturating_sub(plan.size_ms).saturating_sub(plan.lateness_ms);
            plan.end_of(plan.start_of(newest_gone))
        });
        gone.into_iter().chain((self.begins_at > i64::MIN).then_some(self.begins_at)).max()
    }

    /// The same, beginning there.
    pub(crate) fn with_begin(self, begins_at: i64) -> Self {
        Self { begins_at, ..self }
    }

    /// The same behind records that nobody has seen: the window of the first record may have had some of them.
    pub(crate) fn behind_unseen(self) -> Self {
        Self { is_behind_unseen: true, ..self }
    }

    /// Whether it changed since the last call.
    pub(crate) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    pub(crate) fn body(&self) -> WindowBody {
        WindowBody { windows: self.windows.iter().map(|entry| (entry.start_ms, entry.pane.body().clone())).collect() }
    }

    /// Takes up a checkpoint; none if it does not hold together.
    pub(crate) fn restore(plan: &WindowPlan, body: WindowBody, watermark: i64) -> Option<Self> {
        if !body.windows.is_sorted_by(|(one, _), (next, _)| one < next) {
            return None;
        }
        let mut state = Self { changed: false, ..Self::default() };
        for (start_ms, body) in body.windows {
            if plan.start_of(start_ms) != start_ms {
                return None;
            }
            let pane = Pane::restore(plan, body)?;
            state.groups += pane.groups();
            state.key_bytes += pane.key_bytes();
            state.closed += usize::from(plan.end_of(start_ms) <= watermark);
            state.windows.push(Entry { start_ms, pane: Arc::new(pane), run: Vec::new() });
        }
        state.next_event = state.find_next_event(plan);
        Some(state)
    }
}

impl Work<'_> {
    /// Notes that the window does not take a record, unless the record had its effects before.
    fn miss(&self, row: usize, window_start_ms: i64, why: Missed, out: &mut Emitted) {
        let (input, origin) = (self.input, self.input.origin(row));
        if input.info.offsets[origin] >= input.info.emit_from {
            out.missed.push(MissedRecord {
                window: self.plan.name.clone(),
                why,
                offset: input.info.offsets[origin],
                event_time_ms: input.times[row],
                window_start_ms,
                watermark_ms: input.info.progress.before(origin),
            });
        }
    }

    /// Emits the row of a group, unless the record at `offset` had its effects before.
    fn emit(&self, pane: &mut Pane, (start_ms, group): (i64, u32), offset: i64, out: &mut Emitted) {
        if offset < self.input.info.emit_from {
            pane.skip(group);
        } else {
            out.rows.push((offset, pane.emit(self.plan, start_ms, group)));
        }
    }
}
