//! Runs a pipeline over readings of the test stream, for tests of everything that keeps state.

use std::{sync::Arc, time::Duration};

use super::{DecodedInput, Output, PartitionState, PipelinePlan, PipelineSpec};
use crate::{
    expr::fixtures::{Reading, batch, schema},
    output::{AlertTransition, DeadLetter, ErrorClass, MissedRecord, WindowRow},
    stats::MinuteDelta,
    steps::{
        StepSpec,
        rule::RuleSpec,
        window::{Limits, WindowSpec},
    },
};

/// A reading with its place in the log; without one, the record there is a dead letter.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Logged {
    pub(crate) offset: i64,
    pub(crate) log_timestamp: i64,
    pub(crate) reading: Option<Reading>,
}

/// Everything that outputs say, put together without regard to batches.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Effects {
    pub(crate) stored: Vec<i64>,
    pub(crate) filtered: Vec<i64>,
    pub(crate) dead: Vec<i64>,
    pub(crate) windows: Vec<WindowRow>,
    pub(crate) alerts: Vec<AlertTransition>,
    pub(crate) missed: Vec<MissedRecord>,
    pub(crate) ahead: Vec<i64>,
    pub(crate) minutes: Vec<MinuteDelta>,
    pub(crate) refused: u64,
}

pub(crate) fn spec(steps: Vec<StepSpec>) -> PipelineSpec {
    PipelineSpec {
        stream: "sensors".into(),
        event_time: "timestamp".to_owned(),
        key: "sensor_id".to_owned(),
        out_of_orderness: Duration::from_millis(50),
        max_ahead: Some(Duration::from_millis(1_000)),
        measure: Some("value".to_owned()),
        anomaly: Some("anomaly".to_owned()),
        limits: Limits::default(),
        store: true,
        steps,
    }
}

pub(crate) fn plan(steps: Vec<StepSpec>) -> PipelinePlan {
    PipelinePlan::compile(&spec(steps), &Arc::new(schema())).expect("the pipeline is sound")
}

/// A window of 100 ms with 200 ms of lateness.
pub(crate) fn window(select: &[(&str, &str)]) -> WindowSpec {
    WindowSpec {
        name: "readings".to_owned(),
        size: Duration::from_millis(100),
        allowed_lateness: Duration::from_millis(200),
        group_by: vec!["sensor_id".to_owned(), "sensor_type".to_owned()],
        select: select.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
    }
}

pub(crate) fn rule(when: &str) -> RuleSpec {
    RuleSpec {
        name: "hot".to_owned(),
        when: when.to_owned(),
        severity: "critical".to_owned(),
        hold_for: Duration::ZERO,
        cooldown: Duration::ZERO,
        resolve_after: None,
    }
}

pub(crate) fn state(plan: &PipelinePlan) -> PartitionState {
    PartitionState::new(plan, "sensor-readings".into(), 3)
}

/// Readings at offsets 0, 1, …, logged at their event time.
pub(crate) fn log(readings: impl IntoIterator<Item = Reading>) -> Vec<Logged> {
    let numbered = (0..).zip(readings);
    let logged =
        numbered.map(|(offset, reading)| Logged { offset, log_timestamp: reading.timestamp, reading: Some(reading) });
    logged.collect()
}

/// A reading of a sensor at a time.
pub(crate) fn at(sensor_id: &str, timestamp: i64, value: f64) -> Reading {
    Reading { sensor_id: sensor_id.to_owned(), timestamp, value, ..Reading::default() }
}

/// A batch of consecutive records of a log; `end` is the position after it.
pub(crate) fn input(records: &[Logged], start: i64, end: i64) -> DecodedInput {
    let (good, bad): (Vec<&Logged>, Vec<&Logged>) = records.iter().partition(|record| record.reading.is_some());
    let readings: Vec<Reading> = good.iter().filter_map(|record| record.reading.clone()).collect();
    DecodedInput {
        batch: batch(&readings),
        offsets: good.iter().map(|record| record.offset).collect(),
        log_timestamps: good.iter().map(|record| record.log_timestamp).collect(),
        read_at_ms: None,
        dead: bad.iter().map(|record| dead(record)).collect(),
        start,
        end,
    }
}

fn dead(record: &Logged) -> DeadLetter {
    DeadLetter {
        offset: record.offset,
        log_timestamp_ms: record.log_timestamp,
        class: ErrorClass::Decode,
        reason: "not parseable".to_owned(),
        stage: "decode".to_owned(),
        key: None,
        value: Some(vec![1]),
        headers: Vec::new(),
    }
}

/// Runs a log in batches that end before the records at `cuts`, which ascend.
pub(crate) fn run(
    plan: &PipelinePlan,
    state: &mut PartitionState,
    log: &[Logged],
    cuts: &[usize],
    emit_from: i64,
) -> Effects {
    let mut effects = Effects::default();
    let mut first = 0;
    for cut in cuts.iter().copied().filter(|cut| *cut < log.len()).chain([log.len()]) {
        if cut > first {
            let start = state.covered().unwrap_or(log[first].offset);
            let input = input(&log[first..cut], start, log[cut - 1].offset + 1);
            let output = state.process(plan, &input, emit_from).expect("within limits");
            assert_eq!((output.start, output.end), (emit_from.clamp(input.start, input.end), input.end));
            effects.add(output);
            first = cut;
        }
    }
    effects
}

/// Runs a log in one batch with a new state.
pub(crate) fn run_once(plan: &PipelinePlan, log: &[Logged]) -> Effects {
    run(plan, &mut state(plan), log, &[], 0)
}

impl Effects {
    pub(crate) fn add(&mut self, output: Output) {
        assert_eq!(output.rows.num_rows(), output.offsets.len());
        self.stored.extend(output.offsets);
        self.filtered.extend(output.filtered.into_iter().flatten());
        self.dead.extend(output.dead.into_iter().map(|dead| dead.offset));
        self.windows.extend(output.windows);
        self.alerts.extend(output.alerts);
        self.missed.extend(output.missed);
        self.ahead.extend(output.ahead);
        for delta in output.minutes {
            match self.minutes.iter_mut().find(|known| known.minute_ms == delta.minute_ms) {
                Some(known) => known.add(&delta),
                None => self.minutes.push(delta),
            }
        }
        self.minutes.sort_by_key(|delta| delta.minute_ms);
        self.refused += output.refused_keys;
    }
}
