use std::{sync::Arc, time::Duration};

use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};

use super::{
    RulePlan, RuleSpec,
    reference::{ReferenceRecord, ReferenceTransition, recompute},
};
use crate::{
    expr::fixtures::{Reading, schema},
    output::{AlertState, AlertTransition},
    partition::{
        PipelinePlan,
        harness::{Logged, at, log, plan, rule, run, run_once, state},
    },
    steps::StepSpec,
};

fn with(change: impl FnOnce(&mut RuleSpec)) -> PipelinePlan {
    let mut spec = rule("value > 80");
    change(&mut spec);
    plan(vec![StepSpec::Rule(spec)])
}

/// Offset and new state of each transition of one key's `(time, value)` records.
fn life(plan: &PipelinePlan, records: &[(i64, f64)]) -> Vec<(i64, AlertState)> {
    let alerts = run_once(plan, &log(records.iter().map(|(time, value)| at("a", *time, *value)))).alerts;
    alerts.iter().map(|alert| (alert.offset, alert.state)).collect()
}

const FIRING: AlertState = AlertState::Firing;
const RESOLVED: AlertState = AlertState::Resolved;

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn an_alert_fires_once_and_resolves_when_the_condition_no_longer_holds() {
    let plan = with(|_| ());
    let records = [(0, 90.0), (10, 95.0), (20, 70.0), (30, 60.0), (40, 90.0)];
    assert_eq!(life(&plan, &records), [(0, FIRING), (2, RESOLVED), (4, FIRING)]);
}

#[test]
fn keys_are_judged_apart() {
    let plan = with(|_| ());
    let alerts = run_once(&plan, &log([at("a", 0, 90.0), at("b", 1, 70.0), at("b", 2, 90.0), at("a", 3, 1.0)])).alerts;
    let seen: Vec<_> = alerts.iter().map(|alert| (alert.key.as_deref().unwrap(), alert.n, alert.state)).collect();
    assert_eq!(seen, [("a", 0, FIRING), ("b", 0, FIRING), ("a", 1, RESOLVED)]);
    assert_eq!(alerts[0].alert_id, alerts[2].alert_id);
    assert_ne!(alerts[0].alert_id, alerts[1].alert_id);
}

#[test]
fn a_transition_carries_its_record() {
    let plan = with(|_| ());
    let alerts: Vec<AlertTransition> = run_once(&plan, &log([at("a", 1_500, 90.0)])).alerts;
    let alert = &alerts[0];
    assert_eq!(alert.alert_id.len(), 16);
    assert_eq!((alert.event_time_ms, alert.offset, &*alert.severity), (1_500, 0, "critical"));
    assert_eq!(alert.message, "value > 80 holds for a");
    assert_eq!(alert.record["value"], 90.0);
    assert_eq!(alert.record["timestamp"], "1970-01-01T00:00:01.500Z");
}

#[test]
fn a_condition_must_hold_for_its_time_without_a_break() {
    let plan = with(|rule| rule.hold_for = ms(20));
    assert_eq!(life(&plan, &[(0, 90.0), (19, 90.0), (20, 90.0)]), [(2, FIRING)]);
    assert_eq!(life(&plan, &[(0, 90.0), (10, 1.0), (20, 90.0), (39, 90.0)]), []);
}

#[test]
fn an_older_record_does_not_break_a_span_or_resolve_an_alert() {
    let plan = with(|rule| rule.hold_for = ms(20));
    let records = [(100, 90.0), (90, 1.0), (120, 90.0), (110, 1.0), (121, 1.0)];
    assert_eq!(life(&plan, &records), [(2, FIRING), (4, RESOLVED)]);
}

#[test]
fn records_count_in_the_order_of_their_event_times() {
    let (hot, quiet) = (90.0, 1.0);
    // The watermark is 50 ms behind the newest record.
    for (hold_for, records, expected) in [
        // A late record of a key that has been quiet since: it held from then on at the earliest.
        (200, vec![(1_000, quiet), (500, hot), (1_001, hot), (1_149, hot)], vec![]),
        (200, vec![(1_000, quiet), (500, hot), (1_001, hot), (1_150, hot)], vec![(3, FIRING)]),
        (200, vec![(1_000, quiet), (500, hot), (1_001, quiet), (1_150, hot)], vec![]),
        // The same without a time to hold for.
        (0, vec![(1_000, quiet), (500, hot), (501, quiet)], vec![(1, FIRING), (2, RESOLVED)]),
        // Within the usual disorder, a span begins with its record.
        (200, vec![(1_000, quiet), (960, hot), (1_160, hot)], vec![(2, FIRING)]),
        // A late quiet record among those for which the condition holds.
        (0, vec![(100, hot), (130, hot), (120, quiet), (131, quiet)], vec![(0, FIRING), (3, RESOLVED)]),
    ] {
        let plan = with(|rule| rule.hold_for = ms(hold_for));
        assert_eq!(life(&plan, &records), expected, "for {hold_for} ms: {records:?}");
    }
}

#[test]
fn a_key_whose_records_are_always_late_fires_when_the_condition_held_behind_the_watermark() {
    let plan = with(|rule| rule.hold_for = ms(200));
    let late = [1_000, 1_400, 1_950, 2_149, 2_150].map(|time| at("late", time, 90.0));
    let records = log([at("punctual", 2_000, 1.0)].into_iter().chain(late));
    let alerts = run_once(&plan, &records).alerts;
    let seen: Vec<_> = alerts.iter().map(|alert| (alert.key.as_deref(), alert.event_time_ms)).collect();
    assert_eq!(seen, [(Some("late"), 2_150)]);
}

#[test]
fn an_alert_resolves_after_the_time_that_the_rule_asks_for() {
    let plan = with(|rule| rule.resolve_after = Some(ms(20)));
    assert_eq!(life(&plan, &[(0, 90.0), (10, 1.0), (20, 90.0), (30, 1.0), (49, 1.0)]), [(0, FIRING)]);
    assert_eq!(life(&plan, &[(0, 90.0), (10, 1.0), (30, 1.0)]), [(0, FIRING), (2, RESOLVED)]);
}

#[test]
fn nothing_fires_during_the_cooldown() {
    let plan = with(|rule| rule.cooldown = ms(100));
    let records = [(0, 90.0), (10, 1.0), (20, 90.0), (99, 90.0), (100, 90.0)];
    assert_eq!(life(&plan, &records), [(0, FIRING), (1, RESOLVED), (4, FIRING)]);
}

#[test]
fn a_null_condition_does_not_hold() {
    let plan = plan(vec![StepSpec::Rule(rule("level > 1"))]);
    let mut reading = at("a", 0, 1.0);
    reading.level = None;
    assert_eq!(run_once(&plan, &log([reading])).alerts, []);
}

#[test]
fn a_key_at_rest_keeps_no_state() {
    let plan = with(|rule| rule.cooldown = ms(100));
    let mut state = state(&plan);
    let records = log([at("a", 0, 90.0), at("a", 10, 1.0), at("b", 20, 1.0), at("a", 100, 1.0)]);
    run(&plan, &mut state, &records[..3], &[], 0);
    assert_eq!(state.size().keys, 1);
    run(&plan, &mut state, &records[3..], &[], 0);
    assert_eq!(state.size().keys, 0);
}

#[test]
fn the_keys_of_a_rule_are_bounded_and_what_is_refused_is_counted() {
    let plan = with(|_| ());
    let many = super::MAX_KEYS as i64 + 2;
    let effects = run_once(&plan, &log((0..many).map(|key| at(&format!("k{key}"), 0, 90.0))));
    assert_eq!((effects.alerts.len(), effects.refused), (super::MAX_KEYS, 2));
}

#[test]
fn an_unsound_rule_is_refused_with_all_its_faults() {
    let spec = RuleSpec { name: String::new(), ..rule("valu > 1") };
    let faults = RulePlan::compile(&spec, &Arc::new(schema())).expect_err("two faults");
    let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
    assert_eq!(keys, ["name", "when"]);
}

#[test]
fn a_cooldown_has_passed_when_the_watermark_has_passed_it() {
    let plan = with(|rule| rule.cooldown = ms(100));
    let fired = |of_another: i64| {
        let records = [at("a", 0, 90.0), at("a", 10, 1.0), at("b", of_another, 1.0), at("a", 60, 90.0)];
        run_once(&plan, &log(records)).alerts.iter().filter(|alert| alert.state == FIRING).count()
    };
    assert_eq!((fired(149), fired(150)), (1, 2));
}

#[test]
fn an_alert_is_named_after_the_record_that_opened_its_span() {
    let plan = with(|rule| rule.hold_for = ms(20));
    let id = |records: &[(i64, f64)]| {
        let alerts = run_once(&plan, &log(records.iter().map(|(time, value)| at("a", *time, *value)))).alerts;
        alerts[0].alert_id.clone()
    };
    let usual = id(&[(0, 90.0), (20, 90.0)]);
    assert_eq!(id(&[(0, 90.0), (10, 90.0), (25, 90.0)]), usual, "whichever record it fires at");
    assert_ne!(id(&[(0, 1.0), (0, 90.0), (20, 90.0)]), usual);
}

#[test]
fn a_record_of_the_same_moment_is_not_older() {
    let at_once = with(|_| ());
    assert_eq!(life(&at_once, &[(0, 90.0), (0, 1.0)]), [(0, FIRING), (1, RESOLVED)]);
    let slow = with(|rule| rule.hold_for = ms(20));
    assert_eq!(life(&slow, &[(0, 90.0), (0, 1.0), (20, 90.0)]), [], "it ends the span");
    let calm = with(|rule| rule.resolve_after = Some(ms(20)));
    let records = [(0, 90.0), (10, 1.0), (10, 90.0), (30, 1.0), (50, 1.0)];
    assert_eq!(life(&calm, &records), [(0, FIRING), (4, RESOLVED)], "it holds again");
}

/// Times of a rule.
fn rules() -> impl Strategy<Value = RuleSpec> {
    let about = prop_oneof!["value > 80", "sensor_type = 'temperature' AND value > 80"];
    (about, 0_u64..40, 0_u64..80, prop::option::of(0_u64..40)).prop_map(|(when, hold_for, cooldown, resolve_after)| {
        let resolve_after = resolve_after.map(ms);
        RuleSpec { when, hold_for: ms(hold_for), cooldown: ms(cooldown), resolve_after, ..rule("") }
    })
}

/// Readings of three sensors, most of them later than the ones before, some hot for a while: up to 200 ms out of order,
/// some ahead of their log, some a day apart.
fn readings() -> impl Strategy<Value = Vec<Logged>> {
    const DAY_MS: i64 = 24 * 60 * 60 * 1_000;
    let later = prop_oneof![30 => 0_i64..25, 1 => (DAY_MS - 90)..(DAY_MS + 90)];
    let sensor_type = prop_oneof![5 => Just("temperature"), 1 => Just("humidity")];
    let behind = prop_oneof![6 => Just(0), 3 => 0_i64..200, 1 => (DAY_MS - 90)..(DAY_MS + 90)];
    let ahead = prop_oneof![12 => Just(0), 1 => 990_i64..1_010];
    let reading = (0..3_usize, later, behind, ahead, prop::bool::weighted(0.7), sensor_type);
    prop::collection::vec(reading, 0..100).prop_map(|readings| {
        let mut now_ms = 0;
        let logged = (0..).zip(readings).map(|(offset, (sensor, later, behind, ahead, is_hot, sensor_type))| {
            now_ms += later;
            let value = if is_hot { 90.0 } else { 1.0 };
            let reading = Reading { sensor_type, ..at(["a", "b", "c"][sensor], now_ms - behind, value) };
            Logged { offset, log_timestamp: reading.timestamp - ahead, reading: Some(reading) }
        });
        logged.collect()
    })
}

fn reference(spec: &RuleSpec, record: &Logged) -> ReferenceRecord {
    let reading = record.reading.as_ref().unwrap();
    let is_of_type = reading.sensor_type == "temperature";
    let is_meant = is_of_type || !spec.when.contains("sensor_type");
    ReferenceRecord {
        event_time_ms: reading.timestamp,
        log_timestamp_ms: record.log_timestamp,
        key: reading.sensor_id.clone(),
        is_meant,
        holds: is_meant && reading.value > 80.0,
    }
}

/// Key, offset and state of each transition, and what its alert began with.
type Life = Vec<(String, i64, AlertState, i64)>;

fn expected(plan: &PipelinePlan, spec: &RuleSpec, log: &[Logged]) -> Life {
    let records: Vec<ReferenceRecord> = log.iter().map(|record| reference(spec, record)).collect();
    let transitions = recompute(plan.rules().next().unwrap(), plan.watermark(), &records).into_iter();
    let offset = |at: usize| log[at].offset;
    let told = |t: ReferenceTransition| (records[t.at].key.clone(), offset(t.at), t.state, offset(t.opened_at));
    transitions.map(told).collect()
}

/// Runs a property over logs and rules, and checks that it was about alerts at all: so many fired, and as many resolved,
/// per log at least.
fn over_logs(
    least: usize,
    property: impl Fn(&PipelinePlan, &RuleSpec, &[Logged], &[usize]) -> Result<Vec<AlertState>, TestCaseError>,
) {
    let cases = ProptestConfig::default().cases as usize;
    let mut runner =
        TestRunner::new_with_rng(ProptestConfig::default(), TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let counts = std::cell::Cell::new((0, 0));
    let cuts = prop::collection::btree_set(1..100_usize, 0..4).prop_map(|cuts| cuts.into_iter().collect::<Vec<_>>());
    let checked = runner.run(&(rules(), readings(), cuts), |(spec, log, cuts)| {
        let plan = plan(vec![StepSpec::Rule(spec.clone())]);
        let states = property(&plan, &spec, &log, &cuts)?;
        let fired = states.iter().filter(|state| **state == FIRING).count();
        let (all, resolved) = counts.get();
        counts.set((all + fired, resolved + states.len() - fired));
        Ok(())
    });
    checked.unwrap_or_else(|failure| panic!("{failure}"));
    let (fired, resolved) = counts.get();
    assert!(fired >= least * cases && resolved >= least * cases, "{fired} fired, {resolved} resolved in {cases} logs");
}

#[test]
fn a_rule_says_what_its_plain_definition_says() {
    over_logs(2, |plan, spec, log, cuts| {
        let alerts = run(plan, &mut state(plan), log, cuts, 0).alerts;
        let expected = expected(plan, spec, log);
        let told = |alert: &AlertTransition| (alert.key.clone().unwrap(), alert.offset, alert.state);
        let wanted = |(key, offset, state, _): &(String, i64, AlertState, i64)| (key.clone(), *offset, *state);
        prop_assert_eq!(alerts.iter().map(told).collect::<Vec<_>>(), expected.iter().map(wanted).collect::<Vec<_>>());
        // An id stands for a key and the record that its span opened with.
        let mut ids = std::collections::BTreeMap::new();
        for (alert, (key, _, _, opened_at)) in alerts.iter().zip(&expected) {
            prop_assert_eq!(*ids.entry(&alert.alert_id).or_insert((key, opened_at)), (key, opened_at));
        }
        let spans: std::collections::BTreeSet<_> = ids.values().collect();
        prop_assert_eq!(spans.len(), ids.len());
        Ok(alerts.iter().map(|alert| alert.state).collect())
    });
}

/// Alerts of a key alternate between firing and resolved, each pair with an id of its own.
#[test]
fn transitions_alternate() {
    over_logs(2, |plan, spec, log, cuts| {
        let alerts = run(plan, &mut state(plan), log, cuts, 0).alerts;
        let resolve_after_ms = spec.resolve_after.map_or(0, |after| i64::try_from(after.as_millis()).unwrap());
        let mut ids = std::collections::HashSet::new();
        let mut fired = std::collections::HashMap::new();
        for alert in &alerts {
            match alert.state {
                AlertState::Firing => {
                    prop_assert!(ids.insert(&alert.alert_id) && alert.n == 0);
                    prop_assert!(fired.insert(&alert.key, alert).is_none(), "it fires already");
                }
                AlertState::Resolved => {
                    let opened = fired.remove(&alert.key).expect("an alert fired before it resolves");
                    prop_assert_eq!((&opened.alert_id, alert.n), (&alert.alert_id, 1));
                    prop_assert!(alert.event_time_ms >= opened.event_time_ms + resolve_after_ms);
                }
            }
        }
        Ok(alerts.iter().map(|alert| alert.state).collect())
    });
}

#[test]
fn records_that_the_rule_is_not_about_neither_hold_nor_resolve() {
    let plan = with(|rule| rule.when = "sensor_type = 'temperature' AND value > 80".to_owned());
    let of = |sensor_type, time, value| Reading { sensor_type, ..at("a", time, value) };
    let records = [of("temperature", 0, 90.0), of("humidity", 1, 40.0), of("temperature", 2, 70.0)];
    let alerts = run_once(&plan, &log(records)).alerts;
    let seen: Vec<_> = alerts.iter().map(|alert| (alert.offset, alert.state)).collect();
    assert_eq!(seen, [(0, FIRING), (2, RESOLVED)]);
}
