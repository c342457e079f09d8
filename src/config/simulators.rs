//! Section `simulators`: sources of made-up records, written through Kafka like real ones.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::limits::within;
use super::units::HumanDuration;
use crate::{app::SIMULATOR_SPEED, simulators::sensors};

/// All simulators.
#[derive(Debug, Clone, PartialEq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SimulatorsConfig {
    /// Readings for the stream `sensors`.
    pub sensors: SensorSimulator,
}

/// Seeded sensors with a daily season and labelled faults.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SensorSimulator {
    /// Whether it runs (only where there is a stream `sensors`).
    pub enabled: bool,
    /// Same seed, same readings.
    #[schemars(transform = within(0..=u64::MAX))]
    pub seed: u64,
    /// Number of sensors.
    #[schemars(transform = within(sensors::SENSORS))]
    pub sensors: u32,
    /// Kinds of sensors, dealt out in turn.
    pub types: Vec<SensorType>,
    /// Time between two readings of one sensor, in its own time.
    #[schemars(transform = within(sensors::INTERVAL))]
    pub interval: HumanDuration,
    /// How much faster than real time its own time runs.
    #[schemars(transform = within(SIMULATOR_SPEED))]
    pub speed: f64,
    /// Share of readings inside a fault.
    #[schemars(transform = within(sensors::FAULT_RATE))]
    pub fault_rate: f64,
    /// How values are written.
    pub format: SimulatorFormat,
}

impl Default for SensorSimulator {
    fn default() -> Self {
        Self {
            enabled: true,
            seed: 42,
            sensors: 10,
            types: vec![SensorType::Temperature, SensorType::Humidity, SensorType::Pressure],
            interval: HumanDuration::from_secs(1),
            speed: 1.0,
            fault_rate: 0.02,
            format: SimulatorFormat::Json,
        }
    }
}

/// What a sensor measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SensorType {
    /// Degrees Celsius.
    Temperature,
    /// Percent relative humidity.
    Humidity,
    /// Hectopascal.
    Pressure,
}

/// How a simulator writes values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SimulatorFormat {
    /// Plain JSON.
    Json,
    /// Avro in Confluent framing.
    Avro,
}
