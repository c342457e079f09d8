//! Numbers at the ends of their types: whatever is computed from them can be stored, and is told as it is.

use std::time::Duration;

use proptest::prelude::*;
use streamward_core::{
    batch::RawBatch,
    decode::Decoder,
    partition::{DecodedInput, PartitionState, PipelinePlan, PipelineSpec},
    ports::{ReadStore, StatsQuery},
    schema::Scalar,
    steps::{
        StepSpec,
        rule::RuleSpec,
        window::{Limits, WindowSpec},
    },
    table::{Column, Layout, WindowTable},
};

use super::*;
use crate::adapters::sqlite::read::{ReadSettings, SqliteReads};

const START_MS: i64 = 1_735_689_600_000;

/// Every aggregate, over a float and over an integer.
fn pipeline() -> PipelinePlan {
    let select = |function: &str| {
        [
            (format!("{function}_value"), format!("{function}(value)")),
            (format!("{function}_level"), format!("{function}(battery_level)")),
        ]
    };
    let functions = ["sum", "avg", "min", "max", "stddev", "variance", "first", "last", "count"];
    let window = WindowSpec {
        name: "extremes".to_owned(),
        size: Duration::from_secs(60),
        allowed_lateness: Duration::ZERO,
        group_by: vec!["sensor_type".to_owned()],
        select: functions.iter().flat_map(|function| select(function)).collect(),
    };
    let rule = RuleSpec {
        name: "far".to_owned(),
        when: "value * value > 1 AND value + value <> 0".to_owned(),
        severity: "warning".to_owned(),
        hold_for: Duration::ZERO,
        cooldown: Duration::ZERO,
        resolve_after: None,
    };
    let spec = PipelineSpec {
        stream: "sensors".into(),
        event_time: "timestamp".to_owned(),
        key: "sensor_id".to_owned(),
        out_of_orderness: Duration::ZERO,
        max_ahead: None,
        measure: Some("value".to_owned()),
        anomaly: None,
        limits: Limits::default(),
        store: true,
        steps: vec![StepSpec::Window(window), StepSpec::Rule(rule)],
    };
    PipelinePlan::compile(&spec, &plan().stream("sensors").unwrap().schema).unwrap()
}

fn layout(pipeline: &PipelinePlan) -> Layout {
    let window = pipeline.windows().next().unwrap();
    let column = |column: &streamward_core::steps::window::WindowColumn| Column {
        name: column.name.clone(),
        path: column.name.clone(),
        kind: column.kind.clone(),
        nullable: false,
    };
    let table = WindowTable {
        window: window.name().clone(),
        stream: "sensors".into(),
        group: window.group_columns().iter().map(column).collect(),
        values: window.columns().iter().map(column).collect(),
    };
    Layout { windows: vec![table], ..plan().layout() }
}

/// Outputs of records with these values, a second apart, in batches of so many.
fn outputs(pipeline: &PipelinePlan, values: &[f64], batch: usize) -> Vec<Output> {
    let plan = plan();
    let stream = plan.stream("sensors").unwrap();
    let mut decoder = Decoder::new(stream.schema.clone(), stream.limits);
    let mut state = PartitionState::new(pipeline, stream.topic.clone(), 0);
    let mut outputs = Vec::new();
    for (number, values) in values.chunks(batch).enumerate() {
        let start = (number * batch) as i64;
        let mut raw = RawBatch::with_capacity(stream.topic.clone(), 0, 4096);
        for (offset, value) in (start..).zip(values) {
            let value = format!(
                r#"{{"sensor_id":"s","sensor_type":"humidity","value":{value:e},"timestamp":{},"location":"z","anomaly":false,"metadata":{{"battery_level":{},"signal_strength":-40}}}}"#,
                START_MS + offset * 1_000,
                i32::MAX
            );
            raw.push(offset, 0, None, Some(value.as_bytes()));
        }
        let decoded = decoder.decode(&raw, 0..raw.len());
        assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
        let end = start + values.len() as i64;
        let offsets: Vec<i64> = (start..end).collect();
        let log_timestamps = offsets.iter().map(|offset| START_MS + offset * 1_000).collect();
        let input = DecodedInput {
            batch: decoded.batch,
            offsets,
            log_timestamps,
            read_at_ms: None,
            dead: Vec::new(),
            start,
            end,
        };
        let mut output = state.process(pipeline, &input, 0).unwrap();
        output.checkpoint = state.checkpoint(streamward_core::partition::CheckpointScope::Full);
        outputs.push(output);
    }
    outputs
}

async fn committed(folder: &Path, values: &[f64], batch: usize) -> SqlStore {
    let pipeline = pipeline();
    let settings = SqliteSettings::default();
    let store = SqlStore::open(&folder.join("test.db"), &settings, layout(&pipeline)).await.unwrap();
    let owner = assign(&store, 0).await;
    for output in outputs(&pipeline, values, batch) {
        let outcomes = store.commit(&[pending(&owner, output)]).await.unwrap();
        assert_eq!(outcomes, [Outcome::Committed], "{values:?}");
    }
    store
}

/// Mean of the measure, and whether it is said to overflow.
async fn mean(folder: &Path) -> (Option<f64>, bool) {
    let file = folder.join("test.db");
    let reads = SqliteReads::open(&file, plan().layout().streams, Vec::new(), ReadSettings::default()).await.unwrap();
    let query = StatsQuery { stream: "sensors".to_owned(), minutes: 60, now_ms: START_MS + 600_000 };
    let stats = reads.stats(query).await.unwrap();
    (stats.mean, stats.overflows)
}

#[actix::test]
async fn a_sum_that_no_float_holds_is_null_and_says_so_and_later_minutes_are_as_ever() {
    for batch in [1, 2, 3, 4] {
        let folder = tempfile::tempdir().unwrap();
        let values = [[1.7e308, 1.7e308, -1.7e308, -1.7e308].as_slice(), &[5.0; 56], &[7.0; 61]].concat();
        drop(committed(folder.path(), &values, batch).await);
        let counted = async |sql: &'static str| count(folder.path(), sql).await;
        assert_eq!(counted("SELECT count(*) FROM sw_minutes WHERE sum IS NULL").await, 1, "batches of {batch}");
        assert_eq!(counted("SELECT CAST(sum AS INTEGER) FROM sw_minutes WHERE minute = 1735689660000").await, 420);
        assert_eq!(mean(folder.path()).await, (None, true));
        assert_eq!(counted("SELECT count(*) FROM extremes WHERE sum_value IS NULL").await, 1);
        assert_eq!(counted("SELECT sw_overflow LIKE '%\"sum_value\"%' FROM extremes WHERE sum_value IS NULL").await, 1);
        assert_eq!(counted("SELECT count(*) FROM extremes WHERE sum_value = 420 AND sw_overflow IS NULL").await, 1);
    }
}

#[test]
fn sums_of_integers_are_exact_up_to_their_range_and_null_beyond_it() {
    let pipeline = pipeline();
    let rows: Vec<_> = outputs(&pipeline, &[0.5; 61], 61).into_iter().flat_map(|output| output.windows).collect();
    let place = pipeline.windows().next().unwrap().columns().iter().position(|column| column.name == "sum_level");
    assert_eq!(rows[0].values[place.unwrap()], Scalar::Integer(60 * i64::from(i32::MAX)));
    assert_eq!(rows[0].overflow, Vec::<String>::new(), "nothing is beyond its range");
}

fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        Just(f64::MAX),
        Just(f64::MIN),
        Just(1.7e308),
        Just(-1.7e308),
        Just(f64::MIN_POSITIVE),
        Just(-0.0),
        any::<f64>().prop_filter("finite", |number| number.is_finite()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn whatever_finite_numbers_come_everything_computed_from_them_is_stored(
        values in prop::collection::vec(number(), 1..150), batch in 1_usize..80,
    ) {
        let folder = tempfile::tempdir().unwrap();
        actix_rt::System::new().block_on(async {
            let store = committed(folder.path(), &values, batch).await;
            assert_eq!(assign(&store, 0).await.position, Some(values.len() as i64));
            let (mean, overflows) = mean(folder.path()).await;
            assert!(mean.is_some() != overflows, "{mean:?} {overflows}");
        });
    }
}
