//! One reading and its JSON, about 200 bytes, in the fields of `schemas/sensor_reading.avsc`.

use std::fmt;

use jiff::Timestamp;
use serde::{Serialize, Serializer};

/// What a channel measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SensorType {
    /// °C.
    Temperature,
    /// Relative humidity, %.
    Humidity,
    /// hPa.
    Pressure,
}

impl SensorType {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::Temperature, Self::Humidity, Self::Pressure];

    /// The word used in JSON and in the schema.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Temperature => "temperature",
            Self::Humidity => "humidity",
            Self::Pressure => "pressure",
        }
    }
}

impl fmt::Display for SensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a device says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Metadata {
    /// Charge, 0 to 100 %.
    pub battery_level: i32,
    /// Received signal strength, -90 to -30 dBm.
    pub signal_strength: i32,
}

/// One reading of one channel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Reading<'a> {
    /// The device, and the record's key.
    pub sensor_id: &'a str,
    /// What was measured.
    pub sensor_type: SensorType,
    /// In the unit of the type, two decimals.
    pub value: f64,
    /// Milliseconds since the epoch; `timestamp` in the JSON, RFC 3339 in UTC with milliseconds.
    #[serde(rename = "timestamp", serialize_with = "rfc3339")]
    pub event_time_ms: i64,
    /// The zone of the device.
    pub location: &'a str,
    /// Whether this reading is part of a fault.
    pub anomaly: bool,
    /// What the device says about itself.
    pub metadata: Metadata,
}

impl Reading<'_> {
    /// The record's value.
    ///
    /// # Panics
    /// If `event_time_ms` lies outside the years -9999 to 9999, which no simulator emits.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = Vec::with_capacity(256);
        serde_json::to_writer(&mut json, self).expect("a reading has string keys and a time of the calendar");
        json
    }
}

fn rfc3339<S: Serializer>(event_time_ms: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    let time = Timestamp::from_millisecond(*event_time_ms).map_err(serde::ser::Error::custom)?;
    serializer.collect_str(&format_args!("{time:.3}"))
}
