use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

/// 2026-03-01T00:00:00Z.
const START_MS: i64 = 1_772_323_200_000;
const MINUTE_MS: i64 = 60_000;
const HOUR_MS: i64 = 60 * MINUTE_MS;

#[derive(Debug, Clone)]
struct Seen {
    sensor_id: String,
    sensor_type: SensorType,
    value: f64,
    time_ms: i64,
    anomaly: bool,
    metadata: Metadata,
}

fn settings() -> SensorSettings {
    SensorSettings { start_ms: START_MS, ..SensorSettings::default() }
}

fn simulator(settings: &SensorSettings) -> SensorSimulator {
    SensorSimulator::new(settings).expect("valid settings")
}

fn run(simulator: &mut SensorSimulator, until_ms: i64) -> Vec<Seen> {
    let mut seen = Vec::new();
    simulator.emit_until(until_ms, &mut |reading| {
        seen.push(Seen {
            sensor_id: reading.sensor_id.to_owned(),
            sensor_type: reading.sensor_type,
            value: reading.value,
            time_ms: reading.event_time_ms,
            anomaly: reading.anomaly,
            metadata: reading.metadata,
        });
    });
    seen
}

fn bytes(settings: &SensorSettings, calls_ms: &[i64]) -> Vec<u8> {
    let mut simulator = simulator(settings);
    let mut bytes = Vec::new();
    for until_ms in calls_ms {
        simulator.emit_until(*until_ms, &mut |reading| bytes.extend(reading.to_json()));
    }
    bytes
}

#[test]
fn the_same_seed_and_start_give_the_same_bytes_and_another_seed_does_not() {
    let end = [START_MS + 5 * MINUTE_MS];
    let first = bytes(&settings(), &end);
    assert_eq!(first, bytes(&settings(), &end));
    assert_ne!(first, bytes(&SensorSettings { seed: 43, ..settings() }, &end));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn how_the_calls_are_cut_does_not_change_a_byte(mut cuts in prop::collection::vec(0..60_000i64, 0..20)) {
        cuts.sort_unstable();
        cuts.push(60_000);
        let cuts: Vec<i64> = cuts.into_iter().map(|cut| START_MS + cut).collect();
        prop_assert_eq!(bytes(&settings(), &cuts), bytes(&settings(), &[START_MS + 60_000]));
    }
}

#[test]
fn the_json_has_the_schema_s_fields_and_about_200_bytes() {
    let mut lines = Vec::new();
    simulator(&settings()).emit_until(START_MS, &mut |reading| lines.push(reading.to_json()));
    let line = String::from_utf8(lines.remove(0)).unwrap();
    assert!((180..=225).contains(&line.len()), "{} bytes: {line}", line.len());
    let json: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(json["sensor_id"], "sensor_000");
    assert_eq!(json["sensor_type"], "temperature");
    assert_eq!(json["timestamp"], "2026-03-01T00:00:00.000Z");
    assert_eq!(json["location"], "zone_0");
    assert_eq!(json["anomaly"], false);
    assert!(json["value"].is_f64());
    assert!(json["metadata"]["battery_level"].is_i64());
    assert!(json["metadata"]["signal_strength"].is_i64());
    assert_eq!(json.as_object().unwrap().len(), 7);
}

#[test]
fn readings_are_spread_over_the_interval() {
    let quiet = SensorSettings { fault_rate: 0.0, ..settings() };
    let seen = run(&mut simulator(&quiet), START_MS + 999);
    let times: Vec<i64> = seen.iter().map(|reading| reading.time_ms - START_MS).collect();
    assert_eq!(times.len(), 30);
    assert_eq!((times[0], times[29]), (0, 966));
    assert!(times.windows(2).all(|pair| (33..=34).contains(&(pair[1] - pair[0]))), "{times:?}");
}

#[test]
fn nothing_is_emitted_before_it_is_due_and_nothing_twice() {
    let mut simulator = simulator(&settings());
    assert_eq!(simulator.next_due_ms(), START_MS);
    assert_eq!(run(&mut simulator, START_MS - 1).len(), 0);
    assert_eq!(run(&mut simulator, START_MS).len(), 1);
    assert_eq!(run(&mut simulator, START_MS).len(), 0);
    assert_eq!(simulator.next_due_ms(), START_MS + 33);
}

#[test]
fn every_value_stays_within_the_physical_bounds() {
    let wild = SensorSettings { fault_rate: 0.4, ..settings() };
    let seen = run(&mut simulator(&wild), START_MS + 2 * HOUR_MS);
    for reading in &seen {
        let (low, high) = reading.sensor_type.bounds();
        assert!((low..=high).contains(&reading.value), "{reading:?}");
        assert!((0..=100).contains(&reading.metadata.battery_level), "{reading:?}");
        assert!((-90..=-30).contains(&reading.metadata.signal_strength), "{reading:?}");
    }
    let highest = |kind| seen.iter().filter(|r| r.sensor_type == kind).map(|r| r.value).fold(f64::MIN, f64::max);
    assert!(highest(SensorType::Temperature) > 84.0, "the bound is approached");
}

#[test]
fn healthy_readings_never_breach_an_alarm_limit() {
    let quiet = SensorSettings { fault_rate: 0.0, interval: Duration::from_secs(300), ..settings() };
    let seen = run(&mut simulator(&quiet), START_MS + 7 * 24 * HOUR_MS);
    assert!(seen.len() > 60_000);
    for reading in seen {
        let expected = match reading.sensor_type {
            SensorType::Temperature => 0.0..40.0,
            SensorType::Humidity => 10.0..95.0,
            SensorType::Pressure => 960.0..1060.0,
        };
        assert!(!reading.anomaly && expected.contains(&reading.value), "{reading:?}");
    }
}

#[test]
fn the_labelled_share_is_near_the_fault_rate() {
    for fault_rate in [0.01, 0.05, 0.3] {
        let asked = SensorSettings { fault_rate, interval: Duration::from_secs(10), ..settings() };
        let seen = run(&mut simulator(&asked), START_MS + 12 * HOUR_MS);
        let labelled = seen.iter().filter(|reading| reading.anomaly).count();
        let share = labelled as f64 / seen.len() as f64;
        assert!((share / fault_rate - 1.0).abs() < 0.15, "asked {fault_rate}, got {share}");
    }
}

#[test]
fn a_reading_is_labelled_if_and_only_if_it_lies_in_a_listed_fault() {
    let mut simulator = simulator(&SensorSettings { fault_rate: 0.1, ..settings() });
    let seen = run(&mut simulator, START_MS + HOUR_MS);
    let mut faults: HashMap<(String, SensorType), Vec<Fault>> = HashMap::new();
    for fault in simulator.faults() {
        faults.entry((fault.sensor_id.clone(), fault.sensor_type)).or_default().push(fault.clone());
    }
    assert_eq!(simulator.faults_forgotten(), 0);
    for reading in seen {
        let of_channel = faults.get(&(reading.sensor_id.clone(), reading.sensor_type)).map_or(&[][..], Vec::as_slice);
        let within: Vec<&Fault> =
            of_channel.iter().filter(|f| (f.first_ms..=f.last_ms).contains(&reading.time_ms)).collect();
        assert_eq!(within.len(), usize::from(reading.anomaly), "{reading:?} {within:?}");
        if let [fault] = within[..] {
            assert!(fault.kind != FaultKind::Dropout || fault.last_ms == reading.time_ms, "silent in a dropout");
        }
    }
}

#[test]
fn every_kind_of_fault_occurs_and_looks_like_its_name() {
    let mut simulator = simulator(&settings());
    let seen = run(&mut simulator, START_MS + 3 * HOUR_MS);
    let mut of_channel: HashMap<(String, SensorType), Vec<(i64, f64)>> = HashMap::new();
    for reading in seen {
        let channel = of_channel.entry((reading.sensor_id, reading.sensor_type)).or_default();
        channel.push((reading.time_ms, reading.value));
    }
    let mut kinds = HashSet::new();
    for fault in simulator.faults().filter(|fault| fault.last_ms <= START_MS + 3 * HOUR_MS) {
        kinds.insert(fault.kind);
        let channel = &of_channel[&(fault.sensor_id.clone(), fault.sensor_type)];
        let values: Vec<f64> = channel
            .iter()
            .filter(|(time_ms, _)| (fault.first_ms..=fault.last_ms).contains(time_ms))
            .map(|(_, value)| *value)
            .collect();
        match fault.kind {
            FaultKind::Spike => assert!((1..=3).contains(&values.len())),
            FaultKind::Dropout => assert_eq!(values.len(), 1),
            FaultKind::Stuck => {
                assert!(values.len() >= 60);
                assert!(values.iter().all(|value| *value == values[0]), "{fault:?} {values:?}");
            }
            FaultKind::Drift => {
                assert!(values.len() >= 120);
                let (first, last) = (values[0], values[values.len() - 1]);
                assert!((last - first).abs() > 4.0, "{fault:?} goes from {first} to {last}");
            }
        }
    }
    assert_eq!(kinds.len(), FaultKind::ALL.len(), "{kinds:?}");
}

#[test]
fn each_alarm_limit_is_breached_within_ten_minutes_of_a_default_start() {
    for start_ms in [START_MS, START_MS + 15 * HOUR_MS] {
        let seen = run(&mut simulator(&SensorSettings { start_ms, ..settings() }), start_ms + 10 * MINUTE_MS);
        let breached = |kind: SensorType, over: fn(f64) -> bool| {
            seen.iter().any(|reading| reading.sensor_type == kind && reading.anomaly && over(reading.value))
        };
        assert!(breached(SensorType::Temperature, |value| value > 80.0));
        assert!(breached(SensorType::Temperature, |value| value < -20.0));
        assert!(breached(SensorType::Humidity, |value| value > 95.0));
    }
}

#[test]
fn temperature_peaks_in_the_afternoon_and_humidity_goes_the_other_way() {
    let quiet = SensorSettings { fault_rate: 0.0, interval: Duration::from_secs(60), ..settings() };
    let seen = run(&mut simulator(&quiet), START_MS + 4 * 24 * HOUR_MS);
    let mut of_hour: BTreeMap<(&str, i64), (f64, f64)> = BTreeMap::new();
    for reading in &seen {
        let hour = (reading.time_ms / HOUR_MS) % 24;
        let (sum, count) = of_hour.entry((reading.sensor_type.as_str(), hour)).or_default();
        *sum += reading.value;
        *count += 1.0;
    }
    let mean = |kind: SensorType, hour| of_hour[&(kind.as_str(), hour)].0 / of_hour[&(kind.as_str(), hour)].1;
    let peak = (0..24).max_by(|a, b| mean(SensorType::Temperature, *a).total_cmp(&mean(SensorType::Temperature, *b)));
    assert!(matches!(peak, Some(13..=16)), "peak at {peak:?}");
    assert!(mean(SensorType::Temperature, 14) - mean(SensorType::Temperature, 3) > 9.0);
    assert!(mean(SensorType::Humidity, 3) - mean(SensorType::Humidity, 14) > 15.0);
}

#[test]
fn faults_do_not_change_the_healthy_readings() {
    let end = START_MS + 10 * MINUTE_MS;
    let quiet = run(&mut simulator(&SensorSettings { fault_rate: 0.0, ..settings() }), end);
    let quiet: HashMap<_, _> = quiet.into_iter().map(|r| ((r.sensor_id, r.sensor_type, r.time_ms), r.value)).collect();
    for reading in run(&mut simulator(&settings()), end).into_iter().filter(|reading| !reading.anomaly) {
        let key = (reading.sensor_id, reading.sensor_type, reading.time_ms);
        assert_eq!(quiet[&key], reading.value, "{key:?}");
    }
}

#[test]
fn a_battery_discharges_and_is_recharged() {
    let slow = SensorSettings { interval: Duration::from_secs(600), sensors: 1, ..settings() };
    let seen = run(&mut simulator(&slow), START_MS + 5 * 24 * HOUR_MS);
    let levels: Vec<i32> = seen.iter().map(|reading| reading.metadata.battery_level).collect();
    assert!(levels.iter().any(|level| *level <= 22) && levels.iter().any(|level| *level >= 98), "{levels:?}");
    let falls = levels.windows(2).filter(|pair| pair[1] < pair[0]).count();
    let rises = levels.windows(2).filter(|pair| pair[1] > pair[0]).count();
    assert!(falls > rises && rises > 0);
}

#[test]
fn skipping_leaves_out_the_backlog_and_never_goes_back() {
    let mut simulator = simulator(&settings());
    simulator.skip_to(START_MS + HOUR_MS + 10);
    assert_eq!(simulator.next_due_ms(), START_MS + HOUR_MS + 33);
    assert_eq!(run(&mut simulator, START_MS + HOUR_MS).len(), 0);
    assert!(run(&mut simulator, START_MS + HOUR_MS + 1000).len() >= 28);
    let next = simulator.next_due_ms();
    simulator.skip_to(START_MS);
    assert_eq!(simulator.next_due_ms(), next);
    simulator.skip_to(i64::MAX);
    assert_eq!(run(&mut simulator, i64::MAX).len(), 0, "the calendar has ended");
}

#[test]
fn what_is_left_of_a_bounded_emission_comes_next() {
    let calm = SensorSettings { fault_rate: 0.0, ..settings() };
    let (mut whole, mut parts) = (Vec::new(), Vec::new());
    simulator(&calm).emit_until(START_MS + 1000, &mut |reading| whole.push(reading.to_json()));
    let mut bounded = simulator(&calm);
    for sofar in [10, 20] {
        bounded.emit_slots_until(START_MS + 1000, 10, &mut |reading| parts.push(reading.to_json()));
        assert_eq!(parts.len(), sofar);
    }
    bounded.emit_until(START_MS + 1000, &mut |reading| parts.push(reading.to_json()));
    assert_eq!(parts, whole);
}

#[test]
fn the_ground_truth_is_bounded_and_counts_what_it_forgets() {
    let many = SensorSettings { fault_rate: 0.5, sensors: 400, ..settings() };
    let mut simulator = simulator(&many);
    simulator.emit_until(START_MS + 3 * MINUTE_MS, &mut |_| {});
    assert_eq!(simulator.faults().len(), MAX_LISTED_FAULTS);
    assert!(simulator.faults_forgotten() > 0);
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let refused = |settings: SensorSettings| SensorSimulator::new(&settings).expect_err("refused").to_string();
    assert!(refused(SensorSettings { sensors: 0, ..settings() }).contains("sensors must be in 1..=10000, not 0"));
    assert!(refused(SensorSettings { types: vec![], ..settings() }).contains("types must name"));
    let twice = vec![SensorType::Humidity, SensorType::Humidity];
    assert!(refused(SensorSettings { types: twice, ..settings() }).contains("humidity twice"));
    assert!(refused(SensorSettings { interval: Duration::ZERO, ..settings() }).contains("interval"));
    assert!(refused(SensorSettings { fault_rate: f64::NAN, ..settings() }).contains("fault_rate"));
    assert!(refused(SensorSettings { fault_rate: 0.6, ..settings() }).contains("0.6"));
    assert!(refused(SensorSettings { start_ms: i64::MAX, ..settings() }).contains("start_ms"));
}
