//! Event-time tumbling windows: aggregates per group and window, emitted when the watermark passes the window's end.
//!
//! All decisions are made per record, as if records came one at a time: whether a record is late for its window, which
//! record closes which window, which record revises a row. Batches are only a faster way to the same result: a batch
//! is worked off in runs between two such decisions, and within a run column by column.
//!
//! The life of a window `[start, end)`:
//! - *open*: records add to it, nothing is emitted (but see [`WindowState::close_idle`]);
//! - *closed*, once the watermark reached `end`: one row per group, revision 0; a record that still comes updates its
//!   group and emits the row again, revision + 1;
//! - *gone*, once the watermark reached `end + allowed_lateness`: its state is dropped, a record for it is late.
//!
//! Invariants: a row is emitted only if it differs in revision from every row emitted before; rows of a window come in
//! the order in which its groups appeared in the log; state is bounded by [`Limits`]: a record whose group finds no room is
//! missed by the window, as a late one is and one too far ahead of its log timestamp, and the stream goes on.
//!
//! Start with `plan.rs`, then `state.rs`; `step.rs` is its place among the steps; `reference.rs` says the same in the plainest way, for tests and `verify`.

mod accumulate;
mod keys;
mod moments;
mod pane;
mod plan;
pub mod reference;
mod state;
mod step;

#[cfg(test)]
mod tests;

use std::time::Duration;

pub use moments::Moments;
pub use plan::{LONGEST, MAX_GROUP_BY, WindowColumn, WindowPlan};
pub use state::{Limits, WindowState};
pub use step::{unwritten_windows, window_chunk};

pub(crate) use plan::milliseconds;
pub(crate) use state::{Emitted, WindowBody};

/// Settings of one window step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowSpec {
    /// Name of the window and of its table.
    pub name: String,
    /// Length; windows start at multiples of it since 1970.
    pub size: Duration,
    /// How long after its end a window still takes records.
    pub allowed_lateness: Duration,
    /// Columns whose values make a group; none makes one group of all.
    pub group_by: Vec<String>,
    /// Output columns: name and aggregate.
    pub select: Vec<(String, String)>,
}
