use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::{
    CheckpointScope, Decisions, PartitionState, PipelinePlan, PipelineSpec, ProcessError, StateError,
    harness::{Logged, at, input, log, plan, rule, run, run_once, spec, state, window},
};
use crate::{
    expr::fixtures::{Reading, schema},
    output::{Missed, StateChunk, WindowRow, ranges},
    schema::Scalar,
    steps::{
        StepSpec,
        contract::{SELECT, cuts, full_plan, logs},
        window::reference::{ReferenceRecord, recompute},
    },
    watermark::NO_WATERMARK,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn windows_equal_their_plain_recomputation(log in logs(), cuts in cuts()) {
        let plan = plan(vec![StepSpec::Window(window(SELECT))]);
        let log: Vec<Logged> = log.into_iter().filter(|record| record.reading.is_some()).collect();
        let mut state = state(&plan);
        let mut effects = run(&plan, &mut state, &log, &cuts, 0);
        effects.windows.extend(state.tick(&plan, i64::MAX, 0).into_iter().flat_map(|tick| tick.windows));
        let window = plan.windows().next().expect("a window");
        let records: Vec<ReferenceRecord> = log.iter().map(reference).collect();
        let expected = recompute(window, plan.watermark(), &records);

        for (why, indexes) in [(Missed::Late, &expected.late), (Missed::Ahead, &expected.ahead)] {
            let missed = effects.missed.iter().filter(|missed| missed.why == why).map(|missed| missed.offset);
            let offsets = indexes.iter().map(|index| log[*index].offset);
            prop_assert_eq!(missed.collect::<Vec<_>>(), offsets.collect::<Vec<_>>());
        }
        prop_assert_eq!(effects.ahead.len(), expected.ahead.len());
        prop_assert_eq!(state.watermark_ms(), expected.watermark_ms);
        let last = final_rows(&effects.windows);
        prop_assert_eq!(last.len(), expected.rows.len());
        for row in expected.rows {
            let found = last.iter().find(|found| found.start_ms == row.start_ms && found.group == row.group);
            let found = found.expect("every group has a row");
            for (index, value) in row.values.iter().enumerate() {
                prop_assert!(close(value, &found.values[index]), "{}: {value:?} {:?}", SELECT[index].0, found.values[index]);
            }
        }
    }
}

fn reference(record: &Logged) -> ReferenceRecord {
    let reading = record.reading.as_ref().expect("no dead letters here");
    let text = |text: &str| Scalar::Text(text.to_owned());
    let value = Scalar::Number(reading.value);
    let total = reading.total.map_or(Scalar::Null, Scalar::Integer);
    let level = reading.level.map_or(Scalar::Null, |level| Scalar::Integer(level.into()));
    let arguments = vec![
        Scalar::Boolean(true),
        level,
        total.clone(),
        value.clone(),
        value.clone(),
        total.clone(),
        reading.note.map_or(Scalar::Null, text),
        value.clone(),
        value.clone(),
        value,
        total,
    ];
    ReferenceRecord {
        event_time_ms: reading.timestamp,
        log_timestamp_ms: record.log_timestamp,
        group: vec![text(&reading.sensor_id), text(reading.sensor_type)],
        arguments,
    }
}

/// The newest row of each group; revisions of a group come in order, without a gap.
fn final_rows(rows: &[WindowRow]) -> Vec<&WindowRow> {
    let mut last: Vec<&WindowRow> = Vec::new();
    for row in rows {
        match last.iter_mut().find(|known| known.start_ms == row.start_ms && known.group == row.group) {
            Some(known) => {
                assert_eq!(row.revision, known.revision + 1);
                *known = row;
            }
            None => {
                assert_eq!(row.revision, 0);
                last.push(row);
            }
        }
    }
    last
}

fn close(one: &Scalar, other: &Scalar) -> bool {
    match (one, other) {
        (Scalar::Number(a), Scalar::Number(b)) => (a - b).abs() <= 1e-9 * a.abs().max(1.0),
        _ => one == other,
    }
}

#[test]
fn a_filter_step_removes_records_from_later_steps_and_keeps_their_offsets_as_ranges() {
    let plan = plan(vec![
        StepSpec::Filter("value > 0".into()),
        StepSpec::Filter("sensor_id <> 'x'".into()),
        StepSpec::Rule(rule("value < 5")),
    ]);
    let records =
        log([at("a", 0, 1.0), at("a", 1, -1.0), at("x", 2, 1.0), at("b", 3, -1.0), at("b", 4, 9.0), at("x", 5, 1.0)]);
    let output = state(&plan).process(&plan, &input(&records, 0, 6), 0).unwrap();
    assert_eq!((output.offsets, output.filtered), (vec![0, 4], vec![1..4, 5..6]));
    assert_eq!(output.alerts.len(), 1);
}

#[test]
fn a_filtered_record_moves_the_watermark() {
    let plan = plan(vec![StepSpec::Filter("value > 0".into()), StepSpec::Window(window(&[("n", "count(*)")]))]);
    let effects = run_once(&plan, &log([at("a", 10, 1.0), at("a", 160, -1.0), at("a", 170, 1.0)]));
    assert_eq!(effects.windows.len(), 1);
}

#[test]
fn a_batch_that_straddles_the_stored_position_emits_the_part_from_it_on() {
    let plan = full_plan();
    let records = log([at("a", 0, 9.0), at("a", 10, -9.0), at("a", 200, 9.0), at("a", 210, -9.0)]);
    let output = state(&plan).process(&plan, &input(&records, 0, 4), 2).unwrap();
    assert_eq!((output.start, output.end, output.offsets), (2, 4, vec![2]));
    assert_eq!(output.filtered.into_iter().flatten().collect::<Vec<_>>(), [3]);
    assert_eq!(output.minutes.iter().map(|minute| minute.count).sum::<i64>(), 1);
    let replayed = state(&plan).process(&plan, &input(&records, 0, 4), 9).unwrap();
    assert_eq!((replayed.start, replayed.end, replayed.offsets.len(), replayed.windows.len()), (4, 4, 0, 0));
}

#[test]
fn records_that_the_state_covers_already_are_refused() {
    let plan = full_plan();
    let mut state = state(&plan);
    let records = log([at("a", 0, 9.0), at("a", 10, 9.0)]);
    state.process(&plan, &input(&records, 0, 2), 0).unwrap();
    let refused = state.process(&plan, &input(&records, 1, 2), 0).expect_err("offset 1 is covered");
    assert_eq!(refused, ProcessError::Rewound { covered: 2, start: 1 });
}

#[test]
fn only_chunks_that_changed_are_written() {
    let plan = full_plan();
    let mut state = state(&plan);
    run(&plan, &mut state, &log([at("a", 0, 1.0)]), &[], 0);
    let names = |chunks: Vec<StateChunk>| chunks.iter().map(|chunk| chunk.name.to_string()).collect::<Vec<_>>();
    let first = names(state.checkpoint(CheckpointScope::Changed));
    assert_eq!(
        first,
        ["watermark", "window/readings", "begin/readings", "window/by_type", "begin/by_type", "rule/lasting"]
    );
    assert_eq!(names(state.checkpoint(CheckpointScope::Changed)), ["watermark"]);
    let all = [
        "watermark",
        "rule/hot",
        "window/readings",
        "begin/readings",
        "window/by_type",
        "begin/by_type",
        "rule/lasting",
    ];
    assert_eq!(names(state.checkpoint(CheckpointScope::Full)), all);
}

#[test]
fn what_a_full_checkpoint_has_written_has_not_changed_since() {
    let plan = full_plan();
    let mut state = state(&plan);
    run(&plan, &mut state, &log([at("a", 0, 1.0)]), &[], 0);
    assert_eq!(state.checkpoint(CheckpointScope::Full).len(), 7);
    let changed = state.checkpoint(CheckpointScope::Changed);
    assert_eq!(changed.iter().map(|chunk| &*chunk.name).collect::<Vec<_>>(), ["watermark"]);
}

#[test]
fn a_checkpoint_of_another_plan_is_refused_with_both_shapes() {
    let old = plan(vec![StepSpec::Window(window(&[("n", "count(*)")]))]);
    let mut state = state(&old);
    run(&old, &mut state, &log([at("a", 0, 1.0)]), &[], 0);
    let chunks = state.checkpoint(CheckpointScope::Full);
    let restore = |plan: &PipelinePlan, chunks: &[StateChunk]| {
        PartitionState::restore(plan, "t".into(), 0, chunks, NO_WATERMARK).expect_err("another plan")
    };
    let other = plan(vec![StepSpec::Window(window(&[("m", "max(value)")]))]);
    let message = restore(&other, &chunks).to_string();
    assert!(message.contains("n = count(*) long") && message.contains("m = max(value) double"), "{message}");
    let none = plan(vec![]);
    assert_eq!(restore(&none, &chunks), StateError::UnknownChunk { chunk: "window/readings".to_owned() });
    assert_eq!(restore(&old, &chunks[1..]), StateError::NoWatermark);
    let mut newer = chunks;
    newer[0].bytes[0] = 9;
    assert_eq!(restore(&old, &newer), StateError::Version { chunk: "watermark".to_owned(), found: 9 });
}

#[test]
fn all_faults_of_a_pipeline_are_told_at_once_with_their_paths() {
    let mut spec = spec(vec![
        StepSpec::Filter("valu > 1".into()),
        StepSpec::Window(window(&[("avg_value", "avg(sensor_id)")])),
        StepSpec::Rule(rule("value + 1")),
        StepSpec::Rule(rule("value > 1")),
    ]);
    spec.key = "sensor".to_owned();
    spec.event_time = "value".to_owned();
    let errors = PipelinePlan::compile(&spec, &Arc::new(schema())).expect_err("many faults");
    let told: Vec<(&str, Option<usize>)> = errors.iter().map(|error| (error.path.as_str(), error.step)).collect();
    let expected = [
        ("event_time", None),
        ("key", None),
        ("steps.0.filter", Some(0)),
        ("steps.1.window.select.avg_value", Some(1)),
        ("steps.2.rule.when", Some(2)),
        ("steps.3.rule.name", Some(3)),
    ];
    assert_eq!(told, expected);
    assert_eq!(errors[2].place.as_ref().map(|place| place.span.clone()), Some(0..4));
    assert!(errors[2].to_string().starts_with("steps.0.filter: unknown field 'valu', did you mean 'value'?"));
}

#[test]
fn a_pipeline_that_stores_no_rows_has_the_other_effects_and_shows_them() {
    let steps = || {
        vec![
            StepSpec::Filter("value < 90".into()),
            StepSpec::Window(window(&[("n", "count(*)")])),
            StepSpec::Rule(rule("value > 5")),
        ]
    };
    let stored = plan(steps());
    let spec = PipelineSpec { store: false, ..spec(steps()) };
    let unstored = PipelinePlan::compile(&spec, &Arc::new(schema())).unwrap();
    let records = log([at("a", 10, 1.0), at("b", 20, 95.0), at("a", 30, 7.0), at("a", 500, 2.0)]);
    let with = state(&stored).process(&stored, &input(&records, 0, 4), 1).unwrap();
    let without = state(&unstored).process(&unstored, &input(&records, 0, 4), 1).unwrap();
    assert_eq!((&without.windows, &without.alerts), (&with.windows, &with.alerts));
    assert!(!with.windows.is_empty() && !with.alerts.is_empty());
    assert_eq!(
        (without.rows.num_rows(), without.offsets.len(), without.minutes.len(), without.seen.len()),
        (0, 0, 0, 0)
    );
    assert_eq!(without.filtered, ranges(1..4), "from the position on, each record is in one place");
    assert_eq!((without.shown(), without.filtered_records()), (with.shown(), 3));
    assert_eq!((with.shown().1, with.filtered.clone()), (&[2, 3][..], ranges([1])));
}

#[test]
fn figures_of_the_stored_rows_come_with_the_output() {
    let plan = plan(vec![StepSpec::Filter("value < 90".into())]);
    let anomalous = Reading { anomaly: true, ..at("b", 61_000, 3.0) };
    let records = log([at("a", 59_000, 1.0), anomalous, at("a", 58_000, 2.0), at("c", 0, 95.0)]);
    let output = state(&plan).process(&plan, &input(&records, 0, 4), 0).unwrap();
    let minutes: Vec<_> = output.minutes.iter().map(|m| (m.minute_ms, m.count, m.sum, m.anomalies)).collect();
    assert_eq!(minutes, [(0, 2, 3.0, 0), (60_000, 1, 3.0, 1)]);
    assert_eq!(output.seen, [("a".to_owned(), 59_000), ("b".to_owned(), 61_000)]);
}

#[test]
fn a_minute_counts_the_records_that_have_a_measure() {
    let spec = PipelineSpec { measure: Some("level".to_owned()), ..spec(vec![]) };
    let plan = PipelinePlan::compile(&spec, &Arc::new(schema())).unwrap();
    let levels = [Some(10), None, None, Some(4)].map(|level| Reading { level, ..at("a", 0, 1.0) });
    let minutes = run_once(&plan, &log(levels)).minutes;
    let figures: Vec<_> = minutes.iter().map(|m| (m.count, m.measured, m.sum)).collect();
    assert_eq!(figures, [(4, 2, 14.0)]);
}

#[test]
fn figures_leave_out_what_is_ahead_also_without_refused_rows() {
    let plan = plan(vec![StepSpec::Filter("value < 90".into())]);
    let mut records = log([at("x", 1, 95.0), at("b", 9_000, 3.0), at("a", 2, 1.0), at("a", 3, 2.0), at("b", 4, 4.0)]);
    records[1].log_timestamp = 1;
    let output = state(&plan).process(&plan, &input(&records, 0, 5), 0).unwrap();
    assert_eq!((&output.ahead[..], &output.offsets[..]), (&[1][..], &[1, 2, 3, 4][..]));
    let figures = |output: &crate::output::Output| {
        let minutes: Vec<_> = output.minutes.iter().map(|m| (m.minute_ms, m.count, m.sum)).collect();
        (minutes, output.seen.clone())
    };
    let seen = |a, b| vec![("a".to_owned(), a), ("b".to_owned(), b)];
    assert_eq!(figures(&output), (vec![(0, 3, 7.0)], seen(3, 4)));
    let without = output.without_rows(&[2], Vec::new(), plan.key, plan.columns);
    assert_eq!(figures(&without), (vec![(0, 2, 5.0)], seen(2, 4)));
}

/// A moment, and a minute.
const NOW: i64 = 1_700_000_000_000;
const MINUTE: i64 = 60_000;

/// Records whose log timestamps are their producers' word, by event time and log timestamp, read at some time.
fn told_by_producers(times: &[(i64, i64)], start: i64, read_at_ms: i64) -> crate::partition::DecodedInput {
    let logged = (start..).zip(times).map(|(offset, (timestamp, log_timestamp))| Logged {
        offset,
        log_timestamp: *log_timestamp,
        reading: Some(at("a", *timestamp, 1.0)),
    });
    let logged: Vec<Logged> = logged.collect();
    let end = start + logged.len() as i64;
    crate::partition::DecodedInput { read_at_ms: Some(read_at_ms), ..input(&logged, start, end) }
}

#[test]
fn log_times_ahead_of_the_clock_of_reading_count_as_that_clock() {
    let plan = plan(vec![StepSpec::Window(window(&[("n", "count(*)")]))]);
    let mut state = state(&plan);
    let ahead = NOW + 50 * MINUTE;
    let times = [(NOW, NOW), (ahead, ahead), (NOW + 7, NOW + MINUTE), (NOW + 8, -1), (ahead, -1), (NOW + 9, ahead)];
    let output = state.process(&plan, &told_by_producers(&times, 0, NOW), 0).unwrap();
    let missed: Vec<i64> = output.missed.iter().map(|missed| missed.offset).collect();
    assert_eq!((output.ahead, missed, output.offsets.len()), (vec![1, 4], vec![1, 4], 6));
    assert_eq!(state.watermark_ms(), NOW + 9 - 50);
}

#[test]
fn log_times_before_the_clock_of_reading_are_believed() {
    let plan = plan(vec![]);
    let mut state = state(&plan);
    let times = [(NOW, NOW), (NOW + 2_000, NOW)];
    let output = state.process(&plan, &told_by_producers(&times, 0, NOW + 60 * MINUTE), 0).unwrap();
    assert_eq!((output.ahead, state.watermark_ms()), (vec![1], NOW - 50));
}

#[test]
fn replay_takes_what_was_decided_whatever_clock_and_limits_say_by_then() {
    let steps = || vec![StepSpec::Window(window(&[("n", "count(*)")])), StepSpec::Rule(rule("value > 5"))];
    let plan = plan(steps());
    let (mut first, ahead) = (state(&plan), NOW + 50 * MINUTE);
    let records = [(NOW, NOW), (ahead, ahead), (NOW + 900, NOW)];
    let output = first.process(&plan, &told_by_producers(&records, 0, NOW), 0).unwrap();
    assert_eq!((&output.ahead[..], output.checkpoint.len()), (&[1][..], 0));
    let chunks = first.checkpoint(CheckpointScope::Full);
    // An hour later the log time of the second would be believed; a shorter `max_ahead` would leave the third out.
    let hasty = spec(steps());
    let hasty = PipelineSpec { max_ahead: Some(Duration::from_millis(500)), ..hasty };
    let hasty = PipelinePlan::compile(&hasty, &Arc::new(schema())).unwrap();
    let decisions = Decisions::new(0..3, Vec::new(), ranges([1]));
    for plan in [&plan, &hasty] {
        let mut again = state(plan).with_decisions(decisions.clone());
        again.process(plan, &told_by_producers(&records[..2], 0, ahead + 10 * MINUTE), 3).unwrap();
        assert_eq!(again.decided(), Some(&decisions));
        again.process(plan, &told_by_producers(&records[2..], 2, ahead + 10 * MINUTE), 3).unwrap();
        assert_eq!(again.checkpoint(CheckpointScope::Full), chunks);
        assert_eq!(again.decided(), None, "what comes next was never decided on");
    }
    let mut anew = state(&plan);
    anew.process(&plan, &told_by_producers(&records, 0, ahead + 10 * MINUTE), 3).unwrap();
    assert_ne!(anew.checkpoint(CheckpointScope::Full), chunks, "without them the clock decides");
}
