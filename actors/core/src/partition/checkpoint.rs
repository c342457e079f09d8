//! A partition's state as chunks of bytes, and back.
//!
//! A chunk is `version: u8, covered: i64, shape length: u32, shape, body length: u32, body`, little endian, the body in
//! postcard. `covered` is the offset up to which it covers the log; `shape` says what the plan must agree with. Nothing
//! may follow the body.
//!
//! The chunk `watermark` is part of every checkpoint: its `covered` counts for all. A chunk that has not changed since
//! is as good as one written with it, so that only changed ones are written. A rule whose chunk covers more judges no
//! record below that.

use std::sync::Arc;

use serde::{Serialize, de::DeserializeOwned};

use super::{
    plan::{PipelinePlan, Step},
    state::PartitionState,
};
use crate::{
    output::{Output, StateChunk},
    rule::RuleState,
    watermark::{NO_WATERMARK, Watermark},
    window::{WindowBody, WindowState},
};

/// Version of the form of chunks.
const VERSION: u8 = 1;
/// Name of the chunk that every checkpoint has.
pub const WATERMARK: &str = "watermark";

/// How the names of rules' chunks begin.
const RULE: &str = "rule/";

/// Which chunks a checkpoint has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckpointScope {
    /// Those that changed since the last checkpoint.
    Changed,
    /// All of them.
    Full,
}

/// Why a checkpoint cannot be taken up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The bytes are not a chunk, or do not hold together.
    #[error("the state chunk '{chunk}' is damaged: {reason}")]
    Damaged { chunk: String, reason: &'static str },
    /// Written by another version of this program.
    #[error("the state chunk '{chunk}' has version {found}, this program reads version {VERSION}")]
    Version { chunk: String, found: u8 },
    /// The step has other settings now. Without this chunk, the step is new.
    #[error("the state chunk '{chunk}' belongs to another plan: it has {found}, the plan has {wanted}")]
    OtherPlan { chunk: String, found: String, wanted: String },
    /// The plan has no such step. The rest can be taken up without this chunk.
    #[error("the state chunk '{chunk}' belongs to a step that the plan does not have")]
    UnknownChunk { chunk: String },
    /// There is no watermark, so nothing says up to where the state covers the log.
    #[error("the checkpoint has no chunk 'watermark'")]
    NoWatermark,
}

impl PartitionState {
    /// The state as chunks, to be stored with the position [`PartitionState::covered`].
    ///
    /// What is returned counts as stored: drop this state for an earlier clone if storing fails.
    pub fn checkpoint(&mut self, plan: &PipelinePlan, scope: CheckpointScope) -> Vec<StateChunk> {
        let covered = self.covered.unwrap_or(0);
        self.begins_anew = false;
        let mut chunks = vec![chunk(WATERMARK.into(), covered, "", &self.watermark.value_ms())];
        for step in &plan.steps {
            match step {
                Step::Filter(_) => {}
                Step::Window(place, window) => {
                    let state = &mut self.windows[*place];
                    if state.take_changed() || scope == CheckpointScope::Full {
                        chunks.push(chunk(window_chunk(window.name()), covered, window.shape(), &state.body()));
                        let begin = state.begins_at(window, self.watermark.value_ms());
                        chunks.extend(
                            begin.map(|begin| chunk(begin_chunk(window.name()), covered, window.shape(), &begin)),
                        );
                    }
                }
                Step::Rule(place, rule) => {
                    let state = &mut self.rules[*place];
                    if state.take_changed() || scope == CheckpointScope::Full {
                        chunks.push(chunk(rule_chunk(rule.name()), state.covered(covered), "", &state.body()));
                    }
                }
            }
        }
        chunks
    }

    /// The state that a checkpoint holds. Steps without a chunk are new: a rule starts empty, a window step with the first
    /// window that begins after `newest_event_ms` and after all event times up to the watermark. Chunks of rules alone are
    /// of a partition that has stored records and no checkpoint yet: it begins as one that has seen nothing.
    ///
    /// # Errors
    /// If a chunk is damaged or not of this plan, or the watermark is missing.
    pub fn restore(
        plan: &PipelinePlan,
        topic: Arc<str>,
        partition: i32,
        chunks: &[StateChunk],
        newest_event_ms: i64,
    ) -> Result<Self, StateError> {
        let mut state = Self::new(plan, topic, partition);
        let find = |name: &str| chunks.iter().find(|chunk| &*chunk.name == name);
        let watermark = find(WATERMARK).map(|chunk| open::<i64>(chunk, "")).transpose()?;
        let has_seen_nothing = watermark.is_none() && chunks.iter().all(|chunk| chunk.name.starts_with(RULE));
        if watermark.is_none() && !has_seen_nothing {
            return Err(StateError::NoWatermark);
        }
        state.covered = watermark.as_ref().map(|opened| opened.covered);
        state.watermark = watermark.map_or_else(Watermark::default, |opened| Watermark::at(opened.body));
        let mut known: Vec<Arc<str>> = vec![WATERMARK.into()];
        for step in &plan.steps {
            match step {
                Step::Filter(_) => {}
                Step::Window(place, window) => {
                    let (name, begin) = (window_chunk(window.name()), begin_chunk(window.name()));
                    state.windows[*place] = match find(&name) {
                        Some(chunk) => {
                            let opened = open(chunk, window.shape())?;
                            let restored = WindowState::restore(window, opened.body, state.watermark.value_ms());
                            let restored = restored.ok_or_else(|| damaged(chunk, "its groups do not fit"))?;
                            match find(&begin) {
                                Some(chunk) => restored.with_begin(open(chunk, window.shape())?.body),
                                None => restored,
                            }
                        }
                        None if has_seen_nothing => WindowState::default(),
                        None => {
                            state.begins_anew = true;
                            WindowState::beginning_after(window, state.newest_event_ms(plan, newest_event_ms))
                        }
                    };
                    known.extend([name, begin]);
                }
                Step::Rule(place, rule) => {
                    let name = rule_chunk(rule.name());
                    if let Some(chunk) = find(&name) {
                        let opened = open(chunk, "")?;
                        let restored = RuleState::restore(opened.body);
                        state.rules[*place] = restored
                            .ok_or_else(|| damaged(chunk, "its keys are not in order"))?
                            .judging_from(opened.covered);
                    }
                    known.push(name);
                }
            }
        }
        match chunks.iter().find(|chunk| !known.contains(&chunk.name)) {
            Some(chunk) => Err(StateError::UnknownChunk { chunk: chunk.name.to_string() }),
            None => Ok(state),
        }
    }

    /// The state behind a gap of the log, after records whose event times reached up to `newest_event_ms`: rules go on
    /// with what `chunks` hold, window steps begin anew, since nobody knows what their windows miss.
    ///
    /// # Errors
    /// As [`PartitionState::restore`].
    pub fn behind_gap(
        plan: &PipelinePlan,
        topic: Arc<str>,
        partition: i32,
        chunks: &[StateChunk],
        newest_event_ms: i64,
    ) -> Result<Self, StateError> {
        let is_kept = |chunk: &&StateChunk| !["window/", "begin/"].iter().any(|kind| chunk.name.starts_with(kind));
        let kept: Vec<StateChunk> = chunks.iter().filter(is_kept).cloned().collect();
        let state = Self::restore(plan, topic, partition, &kept, newest_event_ms)?;
        let newest_event_ms = state.newest_event_ms(plan, newest_event_ms);
        let anew = |window| WindowState::beginning_after(window, newest_event_ms).behind_unseen();
        Ok(Self { covered: None, windows: plan.windows().map(anew).collect(), begins_anew: true, ..state })
    }

    /// The newest event time of the state's records and those up to `newest_event_ms`.
    pub(super) fn newest_event_ms(&self, plan: &PipelinePlan, newest_event_ms: i64) -> i64 {
        newest_event_ms.max(plan.watermark().newest_event_ms(self.watermark.value_ms()))
    }

    /// Emits windows that have ended by the wall clock although no record has come to close them.
    ///
    /// For a lane that has been at the end of its log for a while. The clock is not in the log, so the output carries a
    /// full checkpoint: replay never crosses it. It is of the stored position `emit_from` where the log holds no more
    /// records up to there. None if there is nothing to emit.
    pub fn tick(&mut self, plan: &PipelinePlan, now_ms: i64, emit_from: i64) -> Option<Output> {
        let position = self.covered?.max(emit_from);
        let windows = &mut self.windows;
        let rows: Vec<_> =
            plan.windows().zip(windows).flat_map(|(plan, state)| state.close_idle(plan, now_ms)).collect();
        if rows.is_empty() {
            return None;
        }
        let mut output = self.empty_output(plan, position);
        output.windows = rows;
        output.checkpoint = self.checkpoint(plan, CheckpointScope::Full);
        Some(output)
    }

    /// The first moment of the wall clock at which [`PartitionState::tick`] has something to emit, unless records come.
    #[must_use]
    pub fn ticks_at(&self, plan: &PipelinePlan) -> Option<i64> {
        plan.windows().zip(&self.windows).filter_map(|(plan, state)| state.closes_idle_at(plan)).min()
    }

    /// An output without effects that stores the whole state, or none before the first batch.
    pub fn checkpoint_output(&mut self, plan: &PipelinePlan, emit_from: i64) -> Option<Output> {
        let mut output = self.empty_output(plan, self.covered?.max(emit_from));
        output.checkpoint = self.checkpoint(plan, CheckpointScope::Full);
        Some(output)
    }
}

/// The checkpoint of a partition whose windows and rules begin at `position`; `watermark` is that of the checkpoint that
/// it takes the place of, if there is one.
///
/// # Errors
/// If `watermark` cannot be read.
pub fn begin_at(position: i64, watermark: Option<&StateChunk>) -> Result<StateChunk, StateError> {
    let value_ms =
        watermark.map(|chunk| open::<i64>(chunk, "")).transpose()?.map_or(NO_WATERMARK, |opened| opened.body);
    Ok(chunk(WATERMARK.into(), position, "", &value_ms))
}

/// The chunk of a rule that judges no record below `position`.
#[must_use]
pub fn rule_from(name: &str, position: i64) -> StateChunk {
    chunk(rule_chunk(name), position, "", &RuleState::default().body())
}

struct Opened<T> {
    covered: i64,
    body: T,
}

/// Name of the chunk that keeps the state of a window step.
#[must_use]
pub fn window_chunk(name: &str) -> Arc<str> {
    format!("window/{name}").into()
}

/// Where a window step begins that was new in the middle of its log.
fn begin_chunk(name: &str) -> Arc<str> {
    format!("begin/{name}").into()
}

/// Starts of the windows in the chunk of a window step, of whatever plan, whose records are not all in a row.
///
/// # Errors
/// If the chunk is damaged.
pub fn unwritten_windows(chunk: &StateChunk) -> Result<Vec<i64>, StateError> {
    let parts = parts(chunk)?;
    Ok(body::<WindowBody>(chunk, parts.body)?.unwritten().collect())
}

/// Name of the chunk that keeps a rule's state.
#[must_use]
pub fn rule_chunk(name: &str) -> Arc<str> {
    format!("{RULE}{name}").into()
}

fn chunk<T: Serialize>(name: Arc<str>, covered: i64, shape: &str, body: &T) -> StateChunk {
    let body = postcard::to_stdvec(body).expect("state has no types that postcard refuses");
    let mut bytes = vec![VERSION];
    bytes.extend_from_slice(&covered.to_le_bytes());
    for part in [shape.as_bytes(), &body] {
        let length = u32::try_from(part.len()).expect("limits keep a chunk far below 4 GiB");
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(part);
    }
    StateChunk { name, bytes }
}

/// A chunk apart.
struct Parts<'a> {
    covered: i64,
    shape: &'a [u8],
    body: &'a [u8],
}

fn open<T: DeserializeOwned>(chunk: &StateChunk, wanted: &str) -> Result<Opened<T>, StateError> {
    let Parts { covered, shape, body: bytes } = parts(chunk)?;
    if shape != wanted.as_bytes() {
        let (found, wanted) = (String::from_utf8_lossy(shape).into_owned(), wanted.to_owned());
        return Err(StateError::OtherPlan { chunk: chunk.name.to_string(), found, wanted });
    }
    Ok(Opened { covered, body: body(chunk, bytes)? })
}

fn parts(chunk: &StateChunk) -> Result<Parts<'_>, StateError> {
    let cut_off = || damaged(chunk, "it is cut off");
    let mut rest = chunk.bytes.as_slice();
    let version = take(&mut rest, 1).ok_or_else(cut_off)?[0];
    if version != VERSION {
        return Err(StateError::Version { chunk: chunk.name.to_string(), found: version });
    }
    let covered = take(&mut rest, 8).and_then(|bytes| bytes.try_into().ok()).map(i64::from_le_bytes);
    let covered = covered.ok_or_else(cut_off)?;
    let shape = part(&mut rest).ok_or_else(cut_off)?;
    let body = part(&mut rest).ok_or_else(cut_off)?;
    if !rest.is_empty() {
        return Err(damaged(chunk, "bytes follow its end"));
    }
    Ok(Parts { covered, shape, body })
}

fn body<T: DeserializeOwned>(chunk: &StateChunk, bytes: &[u8]) -> Result<T, StateError> {
    match postcard::take_from_bytes(bytes) {
        Ok((body, [])) => Ok(body),
        Ok(_) | Err(_) => Err(damaged(chunk, "its body cannot be read")),
    }
}

fn part<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = u32::from_le_bytes(take(rest, 4)?.try_into().ok()?);
    take(rest, usize::try_from(length).ok()?)
}

fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, tail) = rest.split_at_checked(count)?;
    *rest = tail;
    Some(head)
}

fn damaged(chunk: &StateChunk, reason: &'static str) -> StateError {
    StateError::Damaged { chunk: chunk.name.to_string(), reason }
}
