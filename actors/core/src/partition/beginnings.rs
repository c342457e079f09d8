//! Window steps that begin in the middle of a log: what they emit is never a part of a window.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{
    CheckpointScope, PartitionState, PipelinePlan, WATERMARK, begin_at,
    harness::{Effects, Logged, at, input, log, plan, rule, run, run_once, state, window},
};
use crate::{
    output::{Missed, StateChunk, WindowRow},
    schema::Scalar,
    steps::{
        Size, StepSpec,
        rule::rule_from,
        window::{WindowSpec, unwritten_windows, window_chunk},
    },
    watermark::NO_WATERMARK,
};

fn with_window() -> PipelinePlan {
    plan_of(window(&[("n", "count(*)"), ("high", "max(value)")]))
}

fn plan_of(window: WindowSpec) -> PipelinePlan {
    plan(vec![StepSpec::Rule(rule("value > 50")), StepSpec::Window(window)])
}

fn without_window() -> PipelinePlan {
    plan(vec![StepSpec::Rule(rule("value > 50"))])
}

/// Up to 60 readings of two sensors, up to 100 ms late, over about 2 s.
fn logs() -> impl Strategy<Value = Vec<Logged>> {
    let readings = proptest::collection::vec((0_i64..60, -100_i64..0, 0_usize..2, 0_i64..90), 10..60);
    readings.prop_map(|readings| {
        let mut clock = 1_000;
        log(readings.into_iter().map(|(step, late, sensor, value)| {
            clock += step;
            at(["a", "b"][sensor], clock + late, value as f64)
        }))
    })
}

fn newest_ms(log: &[Logged]) -> i64 {
    log.iter()
        .filter_map(|logged| logged.reading.as_ref())
        .map(|reading| reading.timestamp)
        .max()
        .unwrap_or(NO_WATERMARK)
}

/// The last row of each window and group.
fn last_rows(effects: &Effects) -> BTreeMap<(i64, String), WindowRow> {
    let key = |row: &WindowRow| (row.start_ms, format!("{:?}", row.group));
    effects.windows.iter().map(|row| (key(row), row.clone())).collect()
}

fn restored(chunks: &[StateChunk], newest_event_ms: i64) -> PartitionState {
    PartitionState::restore(&with_window(), "sensor-readings".into(), 3, chunks, newest_event_ms).unwrap()
}

proptest! {
    #[test]
    fn each_row_of_a_step_that_came_later_is_that_of_a_step_that_saw_everything(log in logs(), cut in 1_usize..9) {
        let cut = log.len() * cut / 10;
        let all = last_rows(&run_once(&with_window(), &log));
        let mut before = state(&without_window());
        run(&without_window(), &mut before, &log[..cut], &[], 0);
        let chunks = before.checkpoint(CheckpointScope::Full);
        // Once more from a checkpoint early in the rest, which must not forget where the step began.
        let early = cut + (log.len() - cut) / 8;
        let mut begun = restored(&chunks, NO_WATERMARK);
        let mut later = run(&with_window(), &mut begun, &log[cut..early], &[], 0);
        let mut begun = restored(&begun.checkpoint(CheckpointScope::Full), NO_WATERMARK);
        later.windows.extend(run(&with_window(), &mut begun, &log[early..], &[], 0).windows);
        later.windows.extend(begun.tick(&with_window(), i64::MAX, 0).into_iter().flat_map(|output| output.windows));
        let mut whole = state(&with_window());
        let mut wanted = run(&with_window(), &mut whole, &log, &[], 0);
        wanted.windows.extend(whole.tick(&with_window(), i64::MAX, 0).into_iter().flat_map(|output| output.windows));
        let wanted = last_rows(&wanted);
        for (key, row) in last_rows(&later) {
            prop_assert_eq!(&row.values, &wanted[&key].values, "{:?}", key);
            prop_assert!(key.0 > newest_ms(&log[..cut]), "{:?} had begun", key);
        }
        prop_assert!(all.len() <= wanted.len());
    }

    #[test]
    fn behind_a_gap_no_row_of_before_is_emitted_again(log in logs(), cuts in (1_usize..5, 5_usize..9)) {
        let (lost_from, lost_to) = (log.len() * cuts.0 / 10, log.len() * cuts.1 / 10);
        let plan = with_window();
        let mut before = state(&plan);
        let stored = last_rows(&run(&plan, &mut before, &log[..lost_from], &[], 0));
        let chunks = before.checkpoint(CheckpointScope::Full);
        let newest = newest_ms(&log[..lost_from]);
        for chunks in [&chunks[..], &[]] {
            let mut behind = PartitionState::behind_gap(&plan, "sensor-readings".into(), 3, chunks, newest).unwrap();
            let first = log[lost_to].offset;
            prop_assert_eq!(behind.covered(), None);
            let later = run(&plan, &mut behind, &log[lost_to..], &[], first);
            for key in last_rows(&later).keys() {
                prop_assert!(!stored.contains_key(key) && key.0 > newest, "{:?}", key);
            }
        }
    }
}

#[test]
fn records_of_a_window_that_had_begun_are_noted() {
    let plan = with_window();
    let mut state = state(&without_window());
    run(&without_window(), &mut state, &log([at("a", 1_010, 1.0)]), &[], 0);
    let mut begun = restored(&state.checkpoint(CheckpointScope::Full), NO_WATERMARK);
    let later: Vec<Logged> = log([at("a", 1_020, 1.0), at("a", 1_110, 1.0), at("a", 1_400, 1.0)]);
    let later: Vec<Logged> = later.into_iter().map(|logged| Logged { offset: logged.offset + 1, ..logged }).collect();
    let effects = run(&plan, &mut begun, &later, &[], 0);
    let missed: Vec<_> = effects.missed.iter().map(|missed| (missed.why, missed.offset)).collect();
    assert_eq!(missed, [(Missed::Begun, 1)]);
    assert_eq!(effects.windows.len(), 1);
    assert_eq!((effects.windows[0].start_ms, &effects.windows[0].values[0]), (1_100, &Scalar::Integer(1)));
    assert_eq!(effects.stored, [1, 2, 3], "the rows are stored all the same");
}

#[test]
fn where_a_step_begins_is_due_for_a_checkpoint_until_one_tells_it() {
    let plan = with_window();
    let mut before = state(&without_window());
    let chunks = before.checkpoint(CheckpointScope::Full);
    let mut begun = restored(&chunks, 1_010);
    assert!(!before.begins_anew() && begun.begins_anew());
    let chunks = begun.checkpoint(CheckpointScope::Changed);
    assert!(!begun.begins_anew() && !restored(&chunks, 9_000).begins_anew());
    let topic: std::sync::Arc<str> = "sensor-readings".into();
    assert!(PartitionState::behind_gap(&plan, topic, 3, &chunks, 1_010).unwrap().begins_anew());
    // The window that it began with is not lost by a kill: a later newest time moves nothing.
    let effects = run(&plan, &mut restored(&chunks, 9_000), &log([at("a", 1_110, 1.0), at("a", 1_400, 1.0)]), &[], 0);
    assert_eq!(effects.windows.iter().map(|row| row.start_ms).collect::<Vec<_>>(), [1_100]);
}

#[test]
fn a_step_begins_behind_whatever_is_newest_of_the_stream() {
    let empty = state(&without_window());
    let mut empty = empty;
    let chunks = empty.checkpoint(CheckpointScope::Full);
    let effects = |newest| {
        let mut begun = restored(&chunks, newest);
        run(&with_window(), &mut begun, &log([at("a", 1_010, 1.0), at("a", 1_400, 1.0)]), &[], 0)
    };
    assert_eq!(effects(NO_WATERMARK).windows.len(), 1, "nothing was before it");
    assert_eq!(effects(1_000).windows.len(), 0);
    assert_eq!(effects(999).windows.len(), 1);
}

#[test]
fn a_window_that_saw_no_record_is_no_new_step_after_a_restart() {
    let plan = with_window();
    let mut state = state(&plan);
    let chunks = state.checkpoint(CheckpointScope::Changed);
    let mut again = restored(&chunks, 1_050);
    let effects = run(&plan, &mut again, &log([at("a", 1_010, 1.0), at("a", 1_400, 1.0)]), &[], 0);
    assert_eq!(effects.windows.len(), 1);
}

#[test]
fn a_longer_lateness_brings_no_window_back_that_is_gone() {
    let (plan, mut spec) = (with_window(), window(&[("n", "count(*)"), ("high", "max(value)")]));
    spec.allowed_lateness = std::time::Duration::from_secs(3_600);
    let patient = plan_of(spec);
    let mut before = state(&plan);
    // The window of 1,000 goes at a watermark of 1,300, the one of 1,200 is open.
    run(&plan, &mut before, &log([at("a", 1_010, 1.0), at("a", 1_210, 1.0), at("a", 1_360, 1.0)]), &[], 0);
    let chunks = before.checkpoint(CheckpointScope::Full);
    let mut again = PartitionState::restore(&patient, "sensor-readings".into(), 3, &chunks, NO_WATERMARK).unwrap();
    let late = log([at("a", 0, 1.0), at("a", 0, 1.0), at("a", 0, 1.0), at("a", 1_020, 1.0), at("a", 1_220, 1.0)]);
    let effects = run(&patient, &mut again, &late[3..], &[], 0);
    assert_eq!(
        effects.missed.iter().map(|missed| (missed.why, missed.offset)).collect::<Vec<_>>(),
        [(Missed::Begun, 3)]
    );
    assert_eq!(effects.windows.iter().map(|row| row.start_ms).collect::<Vec<_>>(), [1_200]);
}

#[test]
fn a_rule_that_is_new_behind_a_checkpoint_judges_no_record_below_the_position() {
    let (rules, log) = (without_window(), log([at("a", 1_010, 99.0), at("b", 1_020, 99.0), at("a", 1_030, 1.0)]));
    let none = plan(Vec::new());
    let mut before = state(&none);
    run(&none, &mut before, &log[..1], &[], 0);
    let checkpoint = before.checkpoint(CheckpointScope::Full);
    // Also without a checkpoint: the log is read again from its beginning.
    for chunks in [checkpoint, Vec::new()] {
        let from = usize::from(!chunks.is_empty());
        let chunks = [chunks, vec![rule_from("hot", 1)]].concat();
        let topic = "sensor-readings".into();
        let mut state = PartitionState::restore(&rules, topic, 3, &chunks, NO_WATERMARK).unwrap();
        let effects = run(&rules, &mut state, &log[from..], &[], 1);
        let told: Vec<_> = effects.alerts.iter().map(|alert| (alert.key.as_deref(), alert.offset)).collect();
        assert_eq!(told, [(Some("b"), 1)]);
        // A checkpoint does not forget it.
        let mut state = PartitionState::restore(&rules, "sensor-readings".into(), 3, &chunks, NO_WATERMARK).unwrap();
        let again = state.checkpoint(CheckpointScope::Full);
        let mut state = PartitionState::restore(&rules, "sensor-readings".into(), 3, &again, NO_WATERMARK).unwrap();
        assert_eq!(run(&rules, &mut state, &log[from..], &[], 0).alerts.len(), 1);
    }
}

#[test]
fn chunks_of_rules_alone_are_of_a_partition_whose_windows_see_its_log_from_the_beginning() {
    let plan = with_window();
    let mut begun = restored(&[rule_from("hot", 2)], 1_390);
    let effects = run(&plan, &mut begun, &log([at("a", 1_010, 1.0), at("a", 1_020, 1.0), at("a", 1_400, 1.0)]), &[], 0);
    let windows: Vec<_> = effects.windows.iter().map(|row| (row.start_ms, row.values[0].clone())).collect();
    assert_eq!(windows, [(1_000, Scalar::Integer(2))]);
}

#[test]
fn a_state_that_begins_at_a_position_covers_it_and_has_no_part_of_a_window() {
    let plan = with_window();
    let mut before = state(&plan);
    run(&plan, &mut before, &log([at("a", 1_010, 99.0)]), &[], 0);
    let chunks = before.checkpoint(CheckpointScope::Full);
    let watermark = chunks.iter().find(|chunk| &*chunk.name == WATERMARK);
    for watermark in [watermark, None] {
        let start = begin_at(7, watermark).unwrap();
        let mut anew = restored(&[start], 1_010);
        assert_eq!((anew.covered(), anew.size()), (Some(7), Size::default()));
        assert_eq!(anew.watermark_ms(), watermark.map_or(NO_WATERMARK, |_| before.watermark_ms()));
        let later: Vec<Logged> = log([at("a", 1_020, 1.0), at("a", 1_110, 1.0), at("a", 1_400, 1.0)])
            .into_iter()
            .map(|logged| Logged { offset: logged.offset + 7, ..logged })
            .collect();
        let effects = run(&plan, &mut anew, &later, &[], 7);
        assert_eq!(effects.windows.iter().map(|row| row.start_ms).collect::<Vec<_>>(), [1_100]);
    }
    assert!(begin_at(7, Some(&StateChunk { name: WATERMARK.into(), bytes: vec![9] })).is_err());
}

#[test]
fn behind_a_gap_the_window_of_the_first_record_may_miss_some_and_is_left_out() {
    let plan = with_window();
    let behind = PartitionState::behind_gap(&plan, "sensor-readings".into(), 3, &[], 1_010);
    let later = log([at("a", 1_550, 1.0), at("a", 1_610, 1.0), at("a", 1_900, 1.0)]);
    let effects = run(&plan, &mut behind.unwrap(), &later, &[], 0);
    assert_eq!(effects.windows.iter().map(|row| row.start_ms).collect::<Vec<_>>(), [1_600]);
    assert_eq!(effects.missed.iter().map(|missed| missed.why).collect::<Vec<_>>(), [Missed::Begun]);
}

#[test]
fn a_chunk_says_without_its_plan_which_windows_have_records_that_are_in_no_row() {
    let plan = with_window();
    let mut state = state(&plan);
    let records = log([at("a", 1_010, 1.0), at("b", 1_120, 1.0), at("a", 1_130, 1.0), at("a", 1_210, 1.0)]);
    state.process(&plan, &input(&records, 0, 4), 0).unwrap();
    let chunks = state.checkpoint(CheckpointScope::Full);
    let chunk = chunks.iter().find(|chunk| *chunk.name == *window_chunk("readings")).unwrap();
    assert_eq!(unwritten_windows(chunk), Ok(vec![1_100, 1_200]), "the watermark has passed 1,100 alone");
    let cut = StateChunk { bytes: chunk.bytes[..chunk.bytes.len() - 1].to_vec(), ..chunk.clone() };
    assert!(unwritten_windows(&cut).is_err());
}
