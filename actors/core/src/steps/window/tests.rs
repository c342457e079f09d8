use std::{sync::Arc, time::Duration};

use super::{Limits, WindowPlan, WindowSpec};
use crate::{
    expr::fixtures::{Reading, schema},
    output::{Missed, MissedRecord, WindowRow},
    partition::{
        PipelinePlan,
        harness::{Logged, at, log, plan, run, run_once, spec, state, window},
    },
    schema::{Kind, Scalar},
    steps::StepSpec,
};

fn counting() -> PipelinePlan {
    plan(vec![StepSpec::Window(window(&[("n", "count(*)")]))])
}

/// Window start, sensor, count and revision of each row.
fn counts(rows: &[WindowRow]) -> Vec<(i64, &str, i64, i64)> {
    let parts = rows.iter().map(|row| match (&row.group[0], &row.values[0]) {
        (Scalar::Text(sensor), Scalar::Integer(count)) => (row.start_ms, sensor.as_str(), *count, row.revision),
        other => panic!("no count of a sensor: {other:?}"),
    });
    parts.collect()
}

fn times(times: &[i64]) -> Vec<Logged> {
    log(times.iter().map(|time| at("a", *time, 1.0)))
}

#[test]
fn a_window_is_emitted_by_the_record_that_moves_the_watermark_past_its_end() {
    let plan = counting();
    let records = log([at("b", 10, 1.0), at("a", 20, 1.0), at("b", 30, 1.0), at("a", 149, 1.0), at("a", 150, 1.0)]);
    assert_eq!(run_once(&plan, &records[..4]).windows, []);
    let effects = run_once(&plan, &records);
    assert_eq!(counts(&effects.windows), [(0, "b", 2, 0), (0, "a", 1, 0)]);
    assert_eq!((effects.windows[0].end_ms, effects.missed.len()), (100, 0));
}

#[test]
fn a_record_within_the_allowed_lateness_revises_its_window() {
    let effects = run_once(&counting(), &times(&[10, 160, 20, 30]));
    assert_eq!(counts(&effects.windows), [(0, "a", 1, 0), (0, "a", 2, 1), (0, "a", 3, 2)]);
}

#[test]
fn a_group_that_comes_first_after_the_end_starts_at_revision_0() {
    let effects = run_once(&counting(), &log([at("a", 160, 1.0), at("b", 20, 1.0), at("b", 21, 1.0)]));
    assert_eq!(counts(&effects.windows), [(0, "b", 1, 0), (0, "b", 2, 1)]);
}

#[test]
fn a_record_for_a_window_that_is_gone_is_late_and_stored_like_any_other() {
    let effects = run_once(&counting(), &times(&[10, 349, 20, 350, 30]));
    assert_eq!(effects.stored, [0, 1, 2, 3, 4]);
    assert_eq!(counts(&effects.windows), [(0, "a", 1, 0), (0, "a", 2, 1)]);
    let late = |missed: &MissedRecord| (missed.why, missed.offset, missed.window_start_ms, missed.watermark_ms);
    assert_eq!(effects.missed.iter().map(late).collect::<Vec<_>>(), [(Missed::Late, 4, 0, 300)]);
}

#[test]
fn records_of_the_window_before_do_not_count_for_the_one_after() {
    let effects = run_once(&counting(), &times(&[-1, 0, 99, 100, 500]));
    assert_eq!(counts(&effects.windows), [(-100, "a", 1, 0), (0, "a", 2, 0), (100, "a", 1, 0)]);
}

#[test]
fn every_aggregate_has_its_mergeable_columns() {
    let select = [
        ("n", "count(level)"),
        ("total_sum", "sum(total)"),
        ("low", "min(value)"),
        ("high", "max(note)"),
        ("mean", "avg(value)"),
        ("spread", "stddev(value)"),
        ("opening", "first(value)"),
        ("closing", "last(value)"),
    ];
    let plan = plan(vec![StepSpec::Window(window(&select))]);
    let names: Vec<&str> = plan.windows().next().unwrap().columns().iter().map(|column| column.name.as_str()).collect();
    assert_eq!(
        names[8..],
        ["mean_sum", "mean_count", "spread_count", "spread_mean", "spread_m2", "opening_at", "closing_at"]
    );
    let records = log([
        Reading { level: None, total: None, ..at("a", 20, 1.0) },
        Reading { note: Some("b"), total: Some(i64::MAX), ..at("a", 10, 2.0) },
        Reading { note: Some("a"), total: Some(1), ..at("a", 10, 6.0) },
        at("z", 500, 0.0),
    ]);
    let rows = run_once(&plan, &records).windows;
    let number = Scalar::Number;
    let expected = vec![
        Scalar::Integer(2),
        Scalar::Null,
        number(1.0),
        Scalar::Text("b".to_owned()),
        number(3.0),
        number(7.0_f64.sqrt()),
        number(2.0),
        number(1.0),
        number(9.0),
        Scalar::Integer(3),
        Scalar::Integer(3),
        number(3.0),
        number(14.0),
        Scalar::Integer(10),
        Scalar::Integer(20),
    ];
    assert_eq!(rows[0].values, expected);
}

#[test]
fn a_group_without_values_has_nulls_and_one_value_has_no_deviation() {
    let select = [("mean", "avg(ratio)"), ("low", "min(level)"), ("spread", "stddev(value)")];
    let plan = plan(vec![StepSpec::Window(window(&select))]);
    let empty = Reading { ratio: None, level: None, ..at("a", 10, 4.0) };
    let rows = run_once(&plan, &log([empty, at("z", 500, 0.0)])).windows;
    assert_eq!(rows[0].values[..4], [Scalar::Null, Scalar::Null, Scalar::Null, Scalar::Null]);
    let mergeable = [Scalar::Integer(0), Scalar::Integer(1), Scalar::Number(4.0), Scalar::Number(0.0)];
    assert_eq!(rows[0].values[4..], mergeable);
}

#[test]
fn an_idle_lane_emits_what_has_ended_and_a_later_record_revises_it() {
    let plan = counting();
    let mut state = state(&plan);
    run(&plan, &mut state, &times(&[10, 120]), &[], 0);
    assert!(state.tick(&plan, 99, 0).is_none());
    let tick = state.tick(&plan, 150, 0).expect("the first window has ended");
    assert_eq!((counts(&tick.windows), tick.start, tick.end), (vec![(0, "a", 1, 0)], 2, 2));
    assert_eq!(tick.checkpoint.len(), 3);
    assert_eq!(state.watermark_ms(), 70);
    assert!(state.tick(&plan, 160, 0).is_none());
    let mut more = times(&[0, 0, 20, 160, 30]);
    more.drain(..2);
    let effects = run(&plan, &mut state, &more, &[], 0);
    assert_eq!(counts(&effects.windows), [(0, "a", 2, 1), (0, "a", 3, 2)]);
}

#[test]
fn a_window_that_did_not_change_since_the_idle_emission_is_not_emitted_again() {
    let plan = counting();
    let mut state = state(&plan);
    run(&plan, &mut state, &times(&[10]), &[], 0);
    state.tick(&plan, 150, 0).expect("the window has ended");
    let effects = run(&plan, &mut state, &times(&[10, 160])[1..], &[], 0);
    assert_eq!(effects.windows, []);
}

#[test]
fn a_state_at_its_limit_refuses_the_records_that_do_not_fit_and_goes_on() {
    let mut spec = spec(vec![StepSpec::Window(window(&[("n", "count(*)")]))]);
    spec.limits = Limits { groups: 4, ..Limits::default() };
    let plan = PipelinePlan::compile(&spec, &Arc::new(schema())).unwrap();
    let sensors = ["a", "b", "c", "d", "e", "a"].map(|sensor| at(sensor, 10, 1.0));
    let mut records = log(sensors);
    let effects = run_once(&plan, &records);
    let missed: Vec<_> = effects.missed.iter().map(|missed| (missed.offset, missed.why)).collect();
    assert_eq!((missed, effects.stored.len()), (vec![(4, Missed::Full)], 6));
    records =
        log(["a", "b", "c", "d", "e", "a"].map(|sensor| at(sensor, 10, 1.0)).into_iter().chain([at("a", 160, 1.0)]));
    let effects = run_once(&plan, &records);
    assert_eq!(counts(&effects.windows), [(0, "a", 2, 0), (0, "b", 1, 0), (0, "c", 1, 0), (0, "d", 1, 0)]);
}

#[test]
fn records_far_ahead_make_no_window_and_are_counted() {
    // The log's time is that of the record before, so each minute of the future is ahead of it.
    let mut records: Vec<Logged> = log((0..2_000).map(|n| at("a", 60_000 * n, 1.0)));
    for record in &mut records {
        record.log_timestamp = 0;
    }
    let mut state = state(&counting());
    let effects = run(&counting(), &mut state, &records, &[], 0);
    assert_eq!((effects.stored.len(), effects.ahead.len(), state.size().groups), (2_000, 1_999, 1));
    assert_eq!(effects.missed.iter().filter(|missed| missed.why == Missed::Ahead).count(), 1_999);
    assert_eq!(effects.minutes.iter().map(|minute| minute.count).sum::<i64>(), 1);
}

#[test]
fn groups_are_freed_when_their_window_goes() {
    let plan = counting();
    let mut state = state(&plan);
    run(&plan, &mut state, &log((0..100).map(|time| at("a", time * 100, 1.0))), &[], 0);
    assert_eq!(state.size().groups, 4);
}

#[test]
fn all_faults_of_a_window_are_told_at_once_with_their_settings() {
    let spec = WindowSpec {
        name: "Readings".to_owned(),
        size: Duration::ZERO,
        group_by: vec!["sensor".to_owned(), "value".to_owned(), "level".to_owned()],
        ..window(&[
            ("mean", "avg(valu)"),
            ("n", "count(*)"),
            ("n", "count(*)"),
            ("level", "max(level)"),
            ("topic", "max(level)"),
        ])
    };
    let faults = WindowPlan::compile(&spec, &schema()).expect_err("many faults");
    let told: Vec<(&str, &str)> = faults.iter().map(|fault| (fault.key.as_str(), fault.message.as_str())).collect();
    for (key, part) in [
        ("name", "'Readings' is no name"),
        ("size", "at least one millisecond"),
        ("group_by.0", "unknown field 'sensor'"),
        ("group_by.1", "'value' is a float"),
        ("select.mean", "did you mean 'value'? (line 1, column 5)"),
        ("select.n", "already"),
        ("select.level", "already"),
        ("select.topic", "reserved"),
    ] {
        assert!(told.iter().any(|(k, message)| *k == key && message.contains(part)), "{key}: {part}: {told:?}");
    }
    assert_eq!(told.len(), 8, "{told:?}");
}

#[test]
fn columns_have_the_kinds_of_their_values() {
    let plan = counting();
    let window = plan.windows().next().unwrap();
    assert_eq!(window.group_columns()[0].kind, Kind::String);
    assert_eq!(window.columns()[0].kind, Kind::Long);
}
