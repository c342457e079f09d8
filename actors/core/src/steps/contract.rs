//! What every kind of step owes, held against all of them together: a kind's line is in [`full_plan`].

use std::time::Duration;

use proptest::prelude::*;

use super::{StepSpec, derive::DeriveSpec, rule::RuleSpec, window::WindowSpec};
use crate::{
    expr::fixtures::Reading,
    output::StateChunk,
    partition::{
        CheckpointScope, PartitionState, PipelinePlan,
        harness::{Effects, Logged, at, plan, rule, run, state, window},
    },
    watermark::NO_WATERMARK,
};

pub(crate) const SELECT: &[(&str, &str)] = &[
    ("n", "count(*)"),
    ("levels", "count(level)"),
    ("total_sum", "sum(total)"),
    ("value_sum", "sum(value)"),
    ("low", "min(value)"),
    ("high", "max(total)"),
    ("word", "max(note)"),
    ("mean", "avg(value)"),
    ("spread", "stddev(value)"),
    ("opening", "first(value)"),
    ("closing", "last(total)"),
];

/// A pipeline with a step of every kind.
pub(crate) fn full_plan() -> PipelinePlan {
    plan(full_steps())
}

fn full_steps() -> Vec<StepSpec> {
    let hot = RuleSpec { cooldown: Duration::from_millis(120), ..rule("value > 4") };
    let lasting = RuleSpec {
        name: "lasting".to_owned(),
        hold_for: Duration::from_millis(60),
        resolve_after: Some(Duration::from_millis(40)),
        ..rule("level >= 2")
    };
    let by_type = WindowSpec {
        name: "by_type".to_owned(),
        allowed_lateness: Duration::ZERO,
        group_by: vec!["sensor_type".to_owned()],
        ..window(&[("n", "count(*)")])
    };
    vec![
        StepSpec::Rule(hot),
        StepSpec::Filter("value > -2".into()),
        StepSpec::Derive(DeriveSpec(vec![("high".to_owned(), "level * 2".to_owned())])),
        StepSpec::Window(window(SELECT)),
        StepSpec::Filter("high IS NULL OR high <> 2".into()),
        StepSpec::Window(by_type),
        StepSpec::Rule(lasting),
    ]
}

prop_compose! {
    fn reading()(
        sensor in 0..4, humid in prop::bool::weighted(0.3), value in -3_i32..8, step in 0_i64..40,
        back in prop::sample::select(vec![0_i64, 0, 0, 10, 60, 180, 400]), level in prop::option::of(0_i32..4),
        total in prop::option::of(-5_i64..5), note in prop::option::of(prop::sample::select(vec!["x", "y"])),
        anomaly in prop::bool::ANY,
    ) -> (i64, i64, Reading) {
        let sensor_type = if humid { "humidity" } else { "temperature" };
        let reading = Reading { sensor_type, level, total, note, anomaly, ..at(&format!("s{sensor}"), 0, f64::from(value)) };
        (step, back, reading)
    }
}

prop_compose! {
    /// Records whose event times go on, fall back and now and then lie far ahead of the log; some are dead letters.
    pub(crate) fn logs()(
        records in prop::collection::vec((reading(), 1_i64..3, prop::bool::weighted(0.05), prop::bool::weighted(0.03)), 1..120),
    ) -> Vec<Logged> {
        let (mut now, mut offset) = (0, 0);
        let logged = records.into_iter().map(|((step, back, reading), gap, dead, ahead)| {
            now += step;
            offset += gap;
            let timestamp = if ahead { now + 2_000 } else { now - back };
            let reading = (!dead).then_some(Reading { timestamp, ..reading });
            Logged { offset, log_timestamp: now, reading }
        });
        logged.collect()
    }
}

/// Places at which a log is cut into batches.
pub(crate) fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::btree_set(0_usize..120, 0..12).prop_map(|cuts| cuts.into_iter().collect())
}

/// The effects of records at or after an offset, given those of the whole log.
fn joined(mut first: Effects, second: Effects) -> Effects {
    first.stored.extend(second.stored);
    first.filtered.extend(second.filtered);
    first.dead.extend(second.dead);
    first.windows.extend(second.windows);
    first.alerts.extend(second.alerts);
    first.missed.extend(second.missed);
    first.ahead.extend(second.ahead);
    first.refused += second.refused;
    first.minutes.clear();
    first
}

fn without_minutes(mut effects: Effects) -> Effects {
    effects.minutes.clear();
    effects
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn cutting_the_log_into_other_batches_changes_no_effect(log in logs(), one in cuts(), other in cuts()) {
        let plan = full_plan();
        let (mut first, mut second) = (state(&plan), state(&plan));
        let effects = run(&plan, &mut first, &log, &one, 0);
        prop_assert_eq!(&effects, &run(&plan, &mut second, &log, &other, 0));
        let (first, second) = (first.checkpoint(CheckpointScope::Full), second.checkpoint(CheckpointScope::Full));
        prop_assert_eq!(first, second);
        let all = effects.stored.len() + effects.filtered.len() + effects.dead.len();
        prop_assert_eq!(all, log.len());
    }

    /// Run to `stored` in one life, with a checkpoint on the way; then restore and run again from the checkpoint.
    #[test]
    fn replay_from_a_checkpoint_gives_exactly_what_was_missing(
        log in logs(), cuts in cuts(), recut in cuts(), checkpoint_at in 0_usize..120, stored_at in 0_usize..120,
    ) {
        let plan = full_plan();
        let stored_at = stored_at.min(log.len());
        let checkpoint_at = checkpoint_at.min(stored_at);
        let uninterrupted = run(&plan, &mut state(&plan), &log, &cuts, 0);

        let mut life = state(&plan);
        let mut chunks: Vec<StateChunk> = Vec::new();
        let mut before = run(&plan, &mut life, &log[..checkpoint_at / 2], &[], 0);
        merge(&mut chunks, life.checkpoint(CheckpointScope::Full));
        before = joined(before, run(&plan, &mut life, &log[checkpoint_at / 2..checkpoint_at], &[], 0));
        merge(&mut chunks, life.checkpoint(CheckpointScope::Changed));
        before = joined(before, run(&plan, &mut life, &log[checkpoint_at..stored_at], &[], 0));
        let position = stored_at.checked_sub(1).map_or(0, |last| log[last].offset + 1);

        let mut next = PartitionState::restore(&plan, "sensor-readings".into(), 3, &chunks, NO_WATERMARK).expect("it was just written");
        prop_assert_eq!(next.covered().unwrap_or(0), checkpoint_at.checked_sub(1).map_or(0, |last| log[last].offset + 1));
        let after = run(&plan, &mut next, &log[checkpoint_at..], &recut, position);
        prop_assert_eq!(joined(before, after), without_minutes(uninterrupted));
    }

    #[test]
    fn damaged_chunks_are_errors_never_panics(log in logs(), place in 0_usize..400, byte in any::<u8>(), cut in any::<bool>()) {
        let plan = full_plan();
        let mut state = state(&plan);
        run(&plan, &mut state, &log, &[], 0);
        let mut chunks = state.checkpoint(CheckpointScope::Full);
        for chunk in &mut chunks {
            let place = place % chunk.bytes.len();
            if cut { chunk.bytes.truncate(place) } else { chunk.bytes[place] = byte }
        }
        let restored = PartitionState::restore(&plan, "sensor-readings".into(), 3, &chunks, NO_WATERMARK);
        prop_assert!(!cut || restored.is_err());
    }
}

fn merge(chunks: &mut Vec<StateChunk>, newer: Vec<StateChunk>) {
    chunks.retain(|old| newer.iter().all(|new| new.name != old.name));
    chunks.extend(newer);
}

#[test]
fn every_kind_of_step_is_held_against_what_all_of_them_owe() {
    let plan = full_steps();
    let missing: Vec<_> =
        StepSpec::SECTIONS.iter().filter(|section| plan.iter().all(|step| step.section() != **section)).collect();
    assert_eq!(missing, Vec::<&&str>::new());
}
