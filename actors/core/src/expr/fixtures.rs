//! A stream for tests, with every kind of column.

use std::sync::Arc;

use arrow_array::{
    ArrayRef, BooleanArray, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};

use crate::schema::StreamSchema;

/// One record of the test stream.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Reading {
    pub(crate) sensor_id: String,
    pub(crate) sensor_type: &'static str,
    pub(crate) value: f64,
    pub(crate) timestamp: i64,
    pub(crate) anomaly: bool,
    pub(crate) level: Option<i32>,
    pub(crate) ratio: Option<f32>,
    pub(crate) note: Option<&'static str>,
    pub(crate) total: Option<i64>,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            sensor_id: "s1".to_owned(),
            sensor_type: "temperature",
            value: 20.5,
            timestamp: 1_000,
            anomaly: false,
            level: Some(7),
            ratio: Some(0.5),
            note: Some("Ok_100%"),
            total: Some(40),
        }
    }
}

const AVRO: &str = r#"{"type": "record", "name": "Reading", "namespace": "test", "fields": [
    {"name": "sensor_id", "type": "string"},
    {"name": "sensor_type", "type": {"type": "enum", "name": "Type", "symbols": ["temperature", "humidity"]}},
    {"name": "value", "type": "double"},
    {"name": "timestamp", "type": {"type": "long", "logicalType": "timestamp-millis"}},
    {"name": "anomaly", "type": "boolean"},
    {"name": "metadata", "type": {"type": "record", "name": "Metadata", "fields": [
        {"name": "level", "type": ["null", "int"]}
    ]}},
    {"name": "ratio", "type": ["null", "float"]},
    {"name": "note", "type": ["null", "string"]},
    {"name": "total", "type": ["null", "long"]}
]}"#;

/// The schema of the test stream.
pub(crate) fn schema() -> StreamSchema {
    StreamSchema::parse(AVRO).expect("the schema is one")
}

/// The records as a batch.
pub(crate) fn batch(readings: &[Reading]) -> RecordBatch {
    let all = || readings.iter();
    let columns: Vec<ArrayRef> = vec![
        Arc::new(all().map(|reading| Some(&reading.sensor_id)).collect::<StringArray>()),
        Arc::new(all().map(|reading| Some(reading.sensor_type)).collect::<StringArray>()),
        Arc::new(all().map(|reading| reading.value).collect::<Float64Array>()),
        Arc::new(
            all().map(|reading| Some(reading.timestamp)).collect::<TimestampMillisecondArray>().with_timezone("UTC"),
        ),
        Arc::new(all().map(|reading| Some(reading.anomaly)).collect::<BooleanArray>()),
        Arc::new(all().map(|reading| reading.level).collect::<Int32Array>()),
        Arc::new(all().map(|reading| reading.ratio).collect::<Float32Array>()),
        Arc::new(all().map(|reading| reading.note).collect::<StringArray>()),
        Arc::new(all().map(|reading| reading.total).collect::<Int64Array>()),
    ];
    RecordBatch::try_new(schema().arrow, columns).expect("the columns fit the schema")
}
