//! What the tests of all databases store.

use std::sync::Arc;

use arrow_array::RecordBatch;
use streamward_core::{
    batch::RawBatch,
    decode::Decoder,
    output::{AlertState, AlertTransition, DeadLetter, ErrorClass, Output},
    stats::{StatColumns, last_seen, minute_deltas},
};
use streamward_pipeline::{
    logs::LogIdentity,
    store::{Assignment, PartitionKey, Pending, SinkStore, Start},
};

use crate::{
    config::Sources,
    plan::{self, Plan},
};

pub fn plan() -> Plan {
    plan::load(&Sources::default()).unwrap().1
}

pub fn key(partition: i32) -> PartitionKey {
    PartitionKey { sink: "sensors".into(), topic: "sensor-readings".into(), partition }
}

pub fn log(topic_id: &str) -> LogIdentity {
    LogIdentity { cluster_id: "cluster".to_owned(), topic_id: topic_id.to_owned() }
}

/// Takes the partition over and begins at 0 if it is new.
pub async fn assign(store: &(impl SinkStore + ?Sized), partition: i32) -> Assignment {
    assign_of(store, partition, "first").await
}

/// Likewise, of a log.
pub async fn assign_of(store: &(impl SinkStore + ?Sized), partition: i32, topic_id: &str) -> Assignment {
    let assignment = store.assign(&key(partition), &log(topic_id)).await.unwrap();
    if assignment.position.is_none() {
        let start = Start { epoch: assignment.epoch, log: assignment.log, position: 0, gap: None };
        store.start_at(&key(partition), start).await.unwrap();
    }
    assignment
}

/// Records of these offsets, each with a header.
pub fn raw(offsets: &[i64]) -> RawBatch {
    let plan = plan();
    let stream = plan.stream("sensors").unwrap();
    let mut batch = RawBatch::with_capacity(stream.topic.clone(), 0, 4096);
    for offset in offsets {
        let value = format!(
            r#"{{"sensor_id":"s{offset}","sensor_type":"humidity","value":{offset}.5,"timestamp":{},"location":"zone_1","anomaly":false,"metadata":{{"battery_level":50,"signal_strength":-40}}}}"#,
            1_700_000_000_000_i64 + offset
        );
        batch.push(*offset, 0, None, Some(value.as_bytes()));
        batch.push_header(b"\xff", Some(b"v"));
    }
    batch
}

pub fn rows(offsets: &[i64]) -> RecordBatch {
    let plan = plan();
    let stream = plan.stream("sensors").unwrap();
    let batch = raw(offsets);
    let decoded = Decoder::new(stream.schema.clone(), stream.limits).decode(&batch, 0..batch.len());
    assert!(decoded.rejected.is_empty(), "{:?}", decoded.rejected);
    decoded.batch
}

pub fn output(partition: i32, start: i64, end: i64) -> Output {
    let offsets: Vec<i64> = (start..end).collect();
    let rows = rows(&offsets);
    let empty = Output::empty("sensor-readings".into(), partition, end, rows.schema());
    Output { start, offsets, rows, ..empty }
}

pub fn letter(offset: i64) -> DeadLetter {
    DeadLetter {
        offset,
        log_timestamp_ms: 7,
        class: ErrorClass::Decode,
        reason: "not JSON".to_owned(),
        stage: "decode".to_owned(),
        key: Some(vec![0, 255]),
        value: Some(b"{".to_vec()),
        headers: vec![(b"trace".to_vec(), None)],
    }
}

/// A transition of an alert of the built-in rule `temperature_max`.
pub fn transition(alert_id: &str, n: i64, state: AlertState) -> AlertTransition {
    AlertTransition {
        alert_id: alert_id.to_owned(),
        n,
        rule: "temperature_max".into(),
        severity: "critical".into(),
        state,
        key: Some("s1".to_owned()),
        record: serde_json::json!({"value": 81.0}),
        message: "hot".to_owned(),
        event_time_ms: 5,
        offset: n,
    }
}

pub fn pending(assignment: &Assignment, output: Output) -> Arc<Pending> {
    let key = key(output.partition);
    Arc::new(Pending { key, epoch: assignment.epoch, log: assignment.log, output, beside: Vec::new(), raw: None })
}

/// An output of the records from `start` to `end` with their bytes and figures, as a lane issues it.
pub fn issued(owner: &Assignment, partition: i32, (start, end): (i64, i64)) -> Arc<Pending> {
    let mut output = output(partition, start, end);
    let plan = plan();
    let table = &plan.stream("sensors").unwrap().table;
    let columns = StatColumns { event_time: table.event_time, measure: table.measure, anomaly: table.anomaly };
    output.minutes = minute_deltas(&output.rows, columns);
    output.seen = last_seen(&output.rows, table.key, table.event_time);
    let raw = Some(Arc::new(raw(&output.offsets)));
    let bare = Arc::into_inner(pending(owner, output)).unwrap();
    Arc::new(Pending { raw, ..bare })
}
