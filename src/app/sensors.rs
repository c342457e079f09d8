//! The sensor simulator as a role: made-up readings, written through Kafka like anybody's.

use std::{ops::RangeInclusive, sync::Arc, time::Duration};

use streamward_kit::{Failure, Scope};

use super::registration::SchemaId;
use crate::{
    adapters::kafka::producer::{KafkaProducer, Outgoing},
    clock::now_ms,
    config::{self, SimulatorFormat},
    simulators::sensors::{SensorSettings, SensorSimulator, SensorType},
};

/// How often due readings are written.
const TICK: Duration = Duration::from_millis(100);

/// Readings written in one go: where more are due than Kafka takes, event time falls behind and memory does not grow.
const MOST_AT_ONCE: u64 = 20_000;
/// How much faster than the clock event time may run.
pub const SPEED: RangeInclusive<f64> = 0.001..=1e6;

/// Everything the simulator needs; shared by its incarnations.
pub struct SensorsShared {
    pub config: config::SensorSimulator,
    pub topic: Arc<str>,
    pub producer: KafkaProducer,
    /// For `format: avro`.
    pub encoder: AvroEncoder,
}

/// Encodes readings in Confluent framing.
pub struct AvroEncoder {
    pub schema: Arc<streamward_core::schema::StreamSchema>,
    /// The id that the registry gave to the schema, once it has.
    pub id: Arc<SchemaId>,
}

impl AvroEncoder {
    fn encode(&self, id: u32, reading: &crate::simulators::sensors::Reading<'_>) -> Result<Vec<u8>, Failure> {
        use streamward_core::{encode, schema::Scalar};
        let text = |text: &str| Scalar::Text(text.to_owned());
        let row = [
            text(reading.sensor_id),
            text(reading.sensor_type.as_str()),
            Scalar::Number(reading.value),
            Scalar::Integer(reading.event_time_ms),
            text(reading.location),
            Scalar::Boolean(reading.anomaly),
            Scalar::Integer(i64::from(reading.metadata.battery_level)),
            Scalar::Integer(i64::from(reading.metadata.signal_strength)),
        ];
        let mut bytes = Vec::with_capacity(80);
        encode::push_frame(id, &mut bytes);
        encode::encode_avro(&self.schema, &row, &mut bytes)?;
        Ok(bytes)
    }
}

fn settings(config: &config::SensorSimulator, start_ms: i64) -> SensorSettings {
    let kind = |kind: &config::SensorType| match kind {
        config::SensorType::Temperature => SensorType::Temperature,
        config::SensorType::Humidity => SensorType::Humidity,
        config::SensorType::Pressure => SensorType::Pressure,
    };
    SensorSettings {
        seed: config.seed,
        sensors: usize::try_from(config.sensors).unwrap_or(usize::MAX),
        types: config.types.iter().map(kind).collect(),
        interval: config.interval.into(),
        fault_rate: config.fault_rate,
        start_ms,
    }
}

/// Waits for the id that records of `format: avro` begin with; none if the scope asks to stop first.
async fn schema_id(scope: &Scope, shared: &SensorsShared) -> Result<Option<u32>, Failure> {
    match shared.config.format {
        SimulatorFormat::Json => return Ok(Some(0)),
        SimulatorFormat::Avro => {}
    }
    let _waiting = scope.waiting_on("registry");
    loop {
        scope.pause_point().await;
        scope.fault_point("emit").await?;
        if let Some(id) = shared.encoder.id.get() {
            return Ok(Some(id));
        }
        if scope.sleep(TICK).await {
            return Ok(None);
        }
    }
}

/// Runs one incarnation: event time begins now and runs `speed` times as fast as the clock.
pub async fn run(scope: Scope, shared: Arc<SensorsShared>) -> Result<(), Failure> {
    let Some(id) = schema_id(&scope, &shared).await? else { return Ok(()) };
    let started_ms = now_ms();
    let mut simulator = SensorSimulator::new(&settings(&shared.config, started_ms))?;
    let mut due = Vec::new();
    while !scope.sleep(TICK).await {
        scope.pause_point().await;
        scope.fault_point("emit").await?;
        let elapsed_ms = (now_ms() - started_ms) as f64 * shared.config.speed;
        let mut failed = None;
        simulator.emit_slots_until(started_ms + elapsed_ms as i64, MOST_AT_ONCE, &mut |reading| {
            let value = match shared.config.format {
                SimulatorFormat::Avro => shared.encoder.encode(id, &reading),
                SimulatorFormat::Json => Ok(reading.to_json()),
            };
            match value {
                Ok(value) => due.push((reading.sensor_id.to_owned(), value)),
                Err(failure) => failed = Some(failure),
            }
        });
        if let Some(failure) = failed {
            return Err(failure);
        }
        tokio::select! {
            () = write(&scope, &shared, &mut due) => {}
            () = scope.stopping() => return Ok(()),
        }
    }
    Ok(())
}

/// Writes what is due; readings that Kafka does not take are lost, as a real sensor's would be.
async fn write(scope: &Scope, shared: &SensorsShared, due: &mut Vec<(String, Vec<u8>)>) {
    let _waiting = scope.waiting_on("kafka");
    let sends = due.iter().map(|(key, value)| {
        let record = Outgoing {
            topic: &shared.topic,
            partition: None,
            key: Some(key.as_bytes()),
            value: Some(value),
            headers: Vec::new(),
        };
        shared.producer.send(record)
    });
    let (mut written, mut failed) = (0, None);
    for sent in futures_util::future::join_all(sends).await {
        match sent {
            Ok(_) => written += 1,
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) => scope.set_state_note(&error.to_string()),
        None if written > 0 => scope.clear_state_note(),
        None => {}
    }
    scope.progress(written);
    due.clear();
}
