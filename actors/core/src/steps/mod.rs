//! What a pipeline does with its records: the kinds of steps, a file or a folder for each.
//!
//! A kind is three things: its settings ([`Settings`]); the step, which is the settings checked against the columns that it
//! sees, shared by all partitions ([`Step`]); and what one partition remembers of it ([`StepState`]). A pipeline has its
//! steps in one list, and a partition their states in another, in the same order.
//!
//! To add a kind, write its file, and its line in the table below.
//!
//! What every kind owes, whatever it does:
//! - all decisions are made record by record: cutting a log into other batches changes no effect;
//! - records below `emit_from` feed the state, and nothing that they cause is emitted;
//! - a state that was started from its checkpoint goes on as the one that wrote it;
//! - state is bounded; what finds no room is counted.

pub mod derive;
pub mod filter;
pub mod rule;
pub mod window;

#[cfg(test)]
pub(crate) mod contract;

use std::{fmt, sync::Arc};

use crate::{
    chunk::StateError,
    expr::PlanFault,
    output::{StateChunk, WindowRow},
    rows::{BatchInfo, Rows},
    schema::StreamSchema,
};

use derive::DeriveSpec;
use filter::FilterSpec;
use rule::{Alerts, RulePlan, RuleSpec};
use window::{Emitted, Limits, WindowPlan, WindowSpec};

/// Longest name, so that it fits PostgreSQL with a suffix.
const MAX_NAME_BYTES: usize = 48;

/// Makes [`StepSpec`] of the table of kinds: name, settings, key in the configuration.
macro_rules! kinds {
    ($($kind:ident($settings:ty) = $section:literal),+ $(,)?) => {
        /// Settings of one step.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum StepSpec {
            $($kind($settings),)+
        }

        impl StepSpec {
            /// The keys of all kinds.
            #[cfg(test)]
            pub(crate) const SECTIONS: &[&str] = &[$($section,)+];

            /// The key under which a configuration has a step of this kind.
            pub(crate) fn section(&self) -> &'static str {
                match self {
                    $(Self::$kind(_) => $section,)+
                }
            }

            /// Names of the columns that it makes.
            #[must_use]
            pub fn makes(&self) -> Vec<&str> {
                self.settings().makes()
            }

            pub(crate) fn settings(&self) -> &dyn Settings {
                match self {
                    $(Self::$kind(settings) => settings,)+
                }
            }
        }
    };
}

kinds! {
    Filter(FilterSpec) = "filter",
    Derive(DeriveSpec) = "derive",
    Window(WindowSpec) = "window",
    Rule(RuleSpec) = "rule",
}

/// Settings of a kind of step.
pub(crate) trait Settings {
    /// The name that it must have for itself among the steps of its kind; none if it has no name.
    fn name(&self) -> Option<&str> {
        None
    }

    /// Names of the columns that it makes.
    fn makes(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Checks the settings against the columns in front of the step, and leaves those behind it in `scope`.
    ///
    /// # Errors
    /// All faults at once, each with its setting (`when`, `select.avg_value`, …).
    fn compile(&self, scope: &mut Scope) -> Result<Arc<dyn Step>, Vec<PlanFault>>;
}

/// What a step is checked against.
#[derive(Debug)]
pub(crate) struct Scope {
    /// The columns in front of the step: those of the stream, then those that steps before it have made.
    pub(crate) columns: Arc<StreamSchema>,
    /// Bounds of each window step's state in one partition.
    pub(crate) limits: Limits,
}

/// A step, ready to run.
pub(crate) trait Step: fmt::Debug + Send + Sync {
    /// The state of a partition whose steps start there.
    ///
    /// # Errors
    /// If a chunk of this step is damaged or of other settings.
    fn start(self: Arc<Self>, start: &Start<'_>) -> Result<Box<dyn StepState>, StateError>;

    /// Names of the chunks in which checkpoints keep its state; none if it has no state.
    fn chunks(&self) -> Vec<Arc<str>> {
        Vec::new()
    }

    /// What decides which rows come to the steps behind it, besides their own settings.
    fn removes(&self) -> Option<Texts> {
        None
    }

    /// What its state comes from, besides what its rows mean: a setting's name and its text. Records that are read again
    /// behind a kill must make the same state of it. None if it has no state.
    fn replay(&self) -> Option<(String, Texts)> {
        None
    }

    /// What the columns that it makes, in front of the steps behind or in a table of its own, are computed from.
    fn computes(&self) -> Vec<Texts> {
        Vec::new()
    }

    /// The window, if it is one: its rows have a table.
    fn window(&self) -> Option<&WindowPlan> {
        None
    }

    /// The rule, if it is one: it raises alerts.
    fn rule(&self) -> Option<&RulePlan> {
        None
    }
}

/// The same in two ways: as planned, which is the same for the same meaning, and as a person wrote it.
pub(crate) type Texts = [String; 2];

/// Where the steps of a partition start.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Start<'a> {
    pub(crate) chunks: &'a [StateChunk],
    pub(crate) before: Before,
    /// Watermark of the partition there.
    pub(crate) watermark_ms: i64,
    /// Newest event time of all records before, or `NO_WATERMARK`.
    pub(crate) newest_event_ms: i64,
}

/// What the records before the start of a partition's steps are to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Before {
    /// There were none.
    Nothing,
    /// The state of the steps that have a chunk comes from them. Others begin in the middle of the log.
    Checkpoint,
    /// Nobody has seen all of them.
    Gap,
}

impl<'a> Start<'a> {
    /// The first record of a log.
    pub(crate) const NOTHING: Start<'static> = Start {
        chunks: &[],
        before: Before::Nothing,
        watermark_ms: crate::watermark::NO_WATERMARK,
        newest_event_ms: crate::watermark::NO_WATERMARK,
    };

    /// The chunk of that name.
    pub(crate) fn chunk(&self, name: &str) -> Option<&'a StateChunk> {
        self.chunks.iter().find(|chunk| &*chunk.name == name)
    }
}

/// What one partition remembers of a step. Cheap to clone: large parts are shared until changed.
pub(crate) trait StepState: fmt::Debug + Send + Sync {
    /// Works in one batch.
    fn process(&mut self, rows: &mut Rows, info: &BatchInfo<'_>, effects: &mut Effects);

    /// Whether a checkpoint is due with the next output, since the step begins in the middle of a log and no checkpoint
    /// tells where.
    fn begins_anew(&self) -> bool {
        false
    }

    /// What there is to emit since the wall clock says `now_ms`, although no record has come. Replay must never cross it.
    fn tick(&mut self, _now_ms: i64) -> Vec<WindowRow> {
        Vec::new()
    }

    /// The first moment of the wall clock at which [`StepState::tick`] has something to emit, unless records come.
    fn ticks_at(&self) -> Option<i64> {
        None
    }

    /// Adds the state as chunks; without `all`, only where it has changed since the last checkpoint. What is added counts
    /// as stored.
    fn checkpoint(&mut self, _at: Covered, _all: bool, _chunks: &mut Vec<StateChunk>) {}

    /// How much it keeps.
    fn size(&self) -> Size {
        Size::default()
    }

    fn boxed(&self) -> Box<dyn StepState>;
}

impl Clone for Box<dyn StepState> {
    fn clone(&self) -> Self {
        self.boxed()
    }
}

/// Up to where a partition's state covers its log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Covered {
    pub(crate) offset: i64,
    pub(crate) watermark_ms: i64,
}

/// How much the steps of a partition keep.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Size {
    /// Groups of windows that are not gone.
    pub groups: usize,
    /// Keys of rules that are not at rest.
    pub keys: usize,
}

impl std::iter::Sum for Size {
    fn sum<I: Iterator<Item = Self>>(sizes: I) -> Self {
        sizes.fold(Self::default(), |all, one| Self { groups: all.groups + one.groups, keys: all.keys + one.keys })
    }
}

/// What the steps of a batch have done so far.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    /// Offsets of the records that were taken out.
    pub(crate) removed: Vec<i64>,
    pub(crate) emitted: Emitted,
    pub(crate) alerts: Alerts,
}

/// Whether a name can be that of a window, of one of its columns, or of one that a step makes.
pub(crate) fn check_name(key: &str, name: &str, faults: &mut Vec<PlanFault>) {
    let starts_well = name.starts_with(|first: char| first.is_ascii_lowercase() || first == '_');
    let goes_on_well = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
    if !starts_well || !goes_on_well || name.len() > MAX_NAME_BYTES {
        let message = format!("'{name}' is no name: a-z, 0-9 and _, at most {MAX_NAME_BYTES}, not a digit first");
        faults.push(PlanFault::new(key, message));
    }
}
