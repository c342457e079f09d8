//! What a record costs in one partition: `cargo run --release -p streamward-core --example partition_speed`.
//!
//! Filter, one window (1,000 groups, five aggregates) and three rules over decoded batches of 1,000 records.

use std::{hint::black_box, sync::Arc, time::Instant};

use arrow_array::{
    ArrayRef, BooleanArray, Float64Array, Int32Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use std::time::Duration;
use streamward_core::{
    partition::{CheckpointScope, DecodedInput, PartitionState, PipelinePlan, PipelineSpec},
    schema::StreamSchema,
    steps::{
        StepSpec,
        rule::RuleSpec,
        window::{Limits, WindowSpec},
    },
};

const SENSORS: usize = 1_000;
const BATCH: usize = 1_000;
const BATCHES: usize = 2_000;
const TYPES: [&str; 3] = ["temperature", "humidity", "pressure"];

fn main() {
    let schema = include_str!("../../../schemas/sensor_reading.avsc");
    let schema = Arc::new(StreamSchema::parse(schema).expect("the schema is one"));
    let inputs: Vec<DecodedInput> = (0..BATCHES).map(|index| input(&schema, index)).collect();
    let all = steps();
    report("nothing (figures per minute, last seen)", &schema, &inputs, Vec::new());
    report("filter", &schema, &inputs, all[..1].to_vec());
    report("window", &schema, &inputs, all[1..2].to_vec());
    report("three rules", &schema, &inputs, all[2..].to_vec());
    report("filter, window, three rules", &schema, &inputs, all);
}

fn report(name: &str, schema: &Arc<StreamSchema>, inputs: &[DecodedInput], steps: Vec<StepSpec>) {
    let plan = PipelinePlan::compile(&spec(steps), schema).expect("the pipeline is sound");
    let (mut plain, mut snapshots) = (f64::MAX, f64::MAX);
    let mut seen = (0, 0);
    for _ in 0..3 {
        let (ns, found) = run(&plan, inputs, |_| ());
        plain = plain.min(ns);
        seen = found;
        let mut last = None;
        snapshots = snapshots.min(run(&plan, inputs, |state| last = Some(state.clone())).0);
    }
    let mut state = PartitionState::new(&plan, "sensor-readings".into(), 0);
    state.process(&plan, &inputs[0], 0).expect("within limits");
    let started = Instant::now();
    let bytes: usize = state.checkpoint(CheckpointScope::Full).iter().map(|chunk| chunk.bytes.len()).sum();
    let checkpoint_us = started.elapsed().as_micros();
    let (windows, alerts) = seen;
    #[expect(clippy::print_stdout, reason = "the example's output")]
    {
        println!(
            "{name}: {plain:.0} ns/record, {snapshots:.0} with a snapshot per batch; \
             {windows} window rows, {alerts} alerts; checkpoint {bytes} bytes in {checkpoint_us} us"
        );
    }
}

fn run(plan: &PipelinePlan, inputs: &[DecodedInput], mut after: impl FnMut(&PartitionState)) -> (f64, (usize, usize)) {
    let mut state = PartitionState::new(plan, "sensor-readings".into(), 0);
    let (mut windows, mut alerts) = (0, 0);
    let started = Instant::now();
    for input in inputs {
        let output = black_box(state.process(plan, input, 0).expect("within limits"));
        windows += output.windows.len();
        alerts += output.alerts.len();
        after(&state);
    }
    (started.elapsed().as_nanos() as f64 / (BATCHES * BATCH) as f64, (windows, alerts))
}

/// One record per millisecond and round of sensors; one in 500 is hot.
fn input(schema: &StreamSchema, index: usize) -> DecodedInput {
    let start = index * BATCH;
    let numbers = || start..start + BATCH;
    let sensor = |number: usize| (number * 7_919) % SENSORS;
    let time = |number: usize| 1_700_000_000_000 + i64::try_from(number).expect("small") * 2;
    let value = |number: usize| if number.is_multiple_of(503) { 95.0 } else { 20.0 + (number % 97) as f64 / 10.0 };
    let columns: Vec<ArrayRef> = vec![
        Arc::new(numbers().map(|number| Some(format!("sensor-{:04}", sensor(number)))).collect::<StringArray>()),
        Arc::new(numbers().map(|number| Some(TYPES[sensor(number) % 3])).collect::<StringArray>()),
        Arc::new(numbers().map(value).collect::<Float64Array>()),
        Arc::new(
            numbers().map(|number| Some(time(number))).collect::<TimestampMillisecondArray>().with_timezone("UTC"),
        ),
        Arc::new(numbers().map(|_| Some("hall 1")).collect::<StringArray>()),
        Arc::new(numbers().map(|number| Some(number.is_multiple_of(503))).collect::<BooleanArray>()),
        Arc::new(numbers().map(|_| 80).collect::<Int32Array>()),
        Arc::new(numbers().map(|_| -60).collect::<Int32Array>()),
    ];
    let offsets: Vec<i64> = numbers().map(|number| i64::try_from(number).expect("small")).collect();
    DecodedInput {
        batch: RecordBatch::try_new(schema.arrow.clone(), columns).expect("the columns fit the schema"),
        log_timestamps: numbers().map(time).collect(),
        read_at_ms: None,
        dead: Vec::new(),
        start: offsets[0],
        end: offsets[BATCH - 1] + 1,
        offsets,
    }
}

fn steps() -> Vec<StepSpec> {
    let select = [
        ("avg_value", "avg(value)"),
        ("min_value", "min(value)"),
        ("max_value", "max(value)"),
        ("count", "count(*)"),
        ("std_value", "stddev(value)"),
    ];
    let window = WindowSpec {
        name: "aggregated_metrics".to_owned(),
        size: Duration::from_secs(60),
        allowed_lateness: Duration::from_secs(30),
        group_by: vec!["sensor_id".to_owned(), "sensor_type".to_owned()],
        select: select.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
    };
    let rule = |name: &str, when: &str| {
        StepSpec::Rule(RuleSpec {
            name: name.to_owned(),
            when: when.to_owned(),
            severity: "critical".to_owned(),
            hold_for: Duration::ZERO,
            cooldown: Duration::from_secs(300),
            resolve_after: None,
        })
    };
    vec![
        StepSpec::Filter("value > -1000".into()),
        StepSpec::Window(window),
        rule("temperature_max", "sensor_type = 'temperature' AND value > 80"),
        rule("humidity_max", "sensor_type = 'humidity' AND value > 99"),
        rule("battery_low", "battery_level < 10"),
    ]
}

fn spec(steps: Vec<StepSpec>) -> PipelineSpec {
    PipelineSpec {
        stream: "sensors".into(),
        event_time: "timestamp".to_owned(),
        key: "sensor_id".to_owned(),
        out_of_orderness: Duration::from_secs(5),
        max_ahead: None,
        measure: Some("value".to_owned()),
        anomaly: Some("anomaly".to_owned()),
        limits: Limits::default(),
        store: true,
        steps,
    }
}
