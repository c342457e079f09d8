//! Rules worked out in the plainest way: one key at a time, all of its records in memory, one phase after the other.
//!
//! For tests. It shares no code with the real rules: no table of keys, no keys at rest, no batches, no bound on keys.

use std::collections::BTreeMap;

use super::RulePlan;
use crate::{
    output::AlertState,
    watermark::{NO_WATERMARK, WatermarkRules},
};

/// How far behind the watermark a record says nothing any more, and how long a span may be without a record.
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// One record as a rule sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceRecord {
    pub event_time_ms: i64,
    pub log_timestamp_ms: i64,
    pub key: String,
    /// Whether the rule is about it.
    pub is_meant: bool,
    /// Whether the condition holds.
    pub holds: bool,
}

/// One transition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReferenceTransition {
    pub state: AlertState,
    /// Index of the record that made it.
    pub at: usize,
    /// Index of the record with which the alert's span opened.
    pub opened_at: usize,
}

/// Where a key stands; times are event times.
#[derive(Debug, Clone, Copy)]
enum Phase {
    Quiet,
    /// The condition holds, and has not held for long enough or may not fire yet.
    Holding {
        since_ms: i64,
        opened_at: usize,
    },
    /// Newest record for which the condition holds.
    Firing {
        held_ms: i64,
        opened_at: usize,
    },
    /// It fires, and the condition does not hold any more.
    Calming {
        since_ms: i64,
        held_ms: i64,
        opened_at: usize,
    },
}

/// A record of one key, with the watermark before it.
#[derive(Debug, Clone, Copy)]
struct Seen {
    at: usize,
    time_ms: i64,
    watermark_ms: i64,
    holds: bool,
}

/// Works out the transitions of one partition's log, in the order of its records.
#[must_use]
pub fn recompute(plan: &RulePlan, rules: WatermarkRules, records: &[ReferenceRecord]) -> Vec<ReferenceTransition> {
    let mut watermark_ms = NO_WATERMARK;
    let mut by_key: BTreeMap<&str, Vec<Seen>> = BTreeMap::new();
    for (at, record) in records.iter().enumerate() {
        let (time_ms, holds) = (record.event_time_ms, record.holds);
        if rules.is_ahead(time_ms, record.log_timestamp_ms) {
            continue;
        }
        let is_of_the_present = time_ms >= watermark_ms.saturating_sub(DAY_MS);
        if record.is_meant && is_of_the_present {
            by_key.entry(&record.key).or_default().push(Seen { at, time_ms, watermark_ms, holds });
        }
        watermark_ms = watermark_ms.max(time_ms - rules.out_of_orderness_ms);
    }
    let mut transitions: Vec<_> = by_key.values().flat_map(|records| of_key(plan, records)).collect();
    transitions.sort_by_key(|transition| transition.at);
    transitions
}

fn of_key(plan: &RulePlan, records: &[Seen]) -> Vec<ReferenceTransition> {
    let (mut phase, mut cooling_until_ms) = (Phase::Quiet, i64::MIN);
    let mut transitions = Vec::new();
    for record in records {
        let now_ms = record.time_ms.max(record.watermark_ms);
        let next = step(plan, phase, record, now_ms >= cooling_until_ms);
        match (phase, next) {
            (Phase::Quiet | Phase::Holding { .. }, Phase::Firing { held_ms, opened_at }) => {
                cooling_until_ms = held_ms + plan.cooldown_ms;
                transitions.push(ReferenceTransition { state: AlertState::Firing, at: record.at, opened_at });
            }
            (Phase::Firing { opened_at, .. } | Phase::Calming { opened_at, .. }, Phase::Quiet) => {
                transitions.push(ReferenceTransition { state: AlertState::Resolved, at: record.at, opened_at });
            }
            _ => {}
        }
        if now_ms >= cooling_until_ms {
            // Passed once, passed for good: an older record does not bring it back.
            cooling_until_ms = i64::MIN;
        }
        phase = next;
    }
    transitions
}

fn step(plan: &RulePlan, phase: Phase, record: &Seen, may_fire: bool) -> Phase {
    let time_ms = record.time_ms;
    let opened = |since_ms: i64, opened_at: usize| {
        if time_ms - since_ms >= plan.hold_ms && may_fire {
            Phase::Firing { held_ms: time_ms, opened_at }
        } else {
            Phase::Holding { since_ms, opened_at }
        }
    };
    // Of a key at rest nothing is known: what has to hold for a time may begin no earlier than the watermark.
    let beginning_ms = if plan.hold_ms > 0 { time_ms.max(record.watermark_ms) } else { time_ms };
    let calmed = |since_ms: i64, held_ms: i64, opened_at: usize| {
        if time_ms - since_ms >= plan.resolve_after_ms {
            Phase::Quiet
        } else {
            Phase::Calming { since_ms, held_ms, opened_at }
        }
    };
    match phase {
        Phase::Quiet if record.holds => opened(beginning_ms, record.at),
        Phase::Quiet => Phase::Quiet,
        Phase::Holding { since_ms, .. } if time_ms < since_ms => phase,
        Phase::Holding { since_ms, .. } if record.holds && time_ms - since_ms > plan.hold_ms + DAY_MS => {
            Phase::Holding { since_ms: beginning_ms, opened_at: record.at }
        }
        Phase::Holding { since_ms, opened_at } if record.holds => opened(since_ms, opened_at),
        Phase::Holding { .. } => Phase::Quiet,
        Phase::Firing { held_ms, .. } if time_ms < held_ms => phase,
        Phase::Firing { opened_at, .. } if record.holds => Phase::Firing { held_ms: time_ms, opened_at },
        Phase::Firing { held_ms, opened_at } => calmed(time_ms, held_ms, opened_at),
        Phase::Calming { since_ms, .. } if time_ms < since_ms => phase,
        Phase::Calming { held_ms, opened_at, .. } if record.holds => {
            Phase::Firing { held_ms: held_ms.max(time_ms), opened_at }
        }
        Phase::Calming { since_ms, held_ms, opened_at } => calmed(since_ms, held_ms, opened_at),
    }
}
