//! `POST …/records`: validates against the stream's schema, writes through Kafka, answers with the broker's places.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use parking_lot::Mutex;
use streamward_core::{
    batch::RawBatch,
    decode::{Decoder, Format},
    ports::{Answer, Ingest, IngestError, NewRecord, Placed, RecordFault},
};

use super::lag::{LogEnds, TopicLogs};
use crate::{
    adapters::kafka::producer::{KafkaProducer, Outgoing, ProduceError},
    plan::{Plan, StreamSetup},
};

const RETRY_AFTER_S: u32 = 1;
/// How long the cluster may be silent before records are refused at once.
const SILENT_AFTER: Duration = Duration::from_secs(2);

/// Writes records of clients.
pub struct KafkaIngest {
    producer: KafkaProducer,
    ends: LogEnds,
    streams: HashMap<String, Target>,
}

struct Target {
    topic: Arc<str>,
    key: String,
    decoder: Mutex<Decoder>,
    /// Why its records lead nowhere.
    warning: Option<String>,
}

impl KafkaIngest {
    /// Takes records for these streams.
    pub fn new(producer: KafkaProducer, ends: LogEnds, plan: &Plan) -> Self {
        let target = |stream: &StreamSetup| {
            let decoder = Decoder::new(stream.schema.clone(), stream.limits).with_format(Format::Json);
            let (topic, key, warning) = (stream.topic.clone(), stream.key.clone(), plan.warning(&stream.name));
            let target = Target { topic, key, decoder: Mutex::new(decoder), warning };
            (stream.name.to_string(), target)
        };
        Self { producer, ends, streams: plan.streams.iter().map(target).collect() }
    }

    /// Why a topic takes no records, if that is known: nobody needs to wait to learn it.
    fn not_taken(&self, topic: &Arc<str>) -> Option<String> {
        if self.ends.topic(topic) == Some(TopicLogs::Missing) {
            return Some(format!("topic {topic} does not exist: it was deleted"));
        }
        let (lasting, _) = self.ends.silence()?;
        (lasting > SILENT_AFTER).then(|| format!("Kafka has not answered for {} s", lasting.as_secs()))
    }

    async fn append_all(&self, stream: &str, records: Vec<NewRecord>) -> Result<Vec<Placed>, IngestError> {
        let target = self.streams.get(stream).ok_or_else(|| IngestError::UnknownStream(stream.to_owned()))?;
        let faults = target.validate(&records);
        if !faults.is_empty() {
            return Err(IngestError::Invalid(faults));
        }
        if let Some(why) = self.not_taken(&target.topic) {
            return Err(IngestError::NotTaken(why));
        }
        let keys: Vec<String> = records.iter().map(|record| target.key_of(record)).collect();
        let sends = records.iter().zip(&keys).map(|(record, key)| {
            self.producer.send(Outgoing {
                topic: &target.topic,
                partition: None,
                key: Some(key.as_bytes()),
                value: Some(&record.value),
                headers: Vec::new(),
            })
        });
        let sent = join_all(sends).await;
        let placed: Vec<Option<Placed>> = sent
            .iter()
            .map(|sent| sent.as_ref().ok().map(|place| Placed { partition: place.partition, offset: place.offset }))
            .collect();
        match sent.into_iter().find_map(Result::err) {
            None => Ok(placed.into_iter().flatten().collect()),
            Some(ProduceError::Refused(code)) => {
                Err(IngestError::Unavailable { reason: code.to_string(), retry_after_s: RETRY_AFTER_S, placed })
            }
            Some(ProduceError::Unavailable(reason)) => {
                Err(IngestError::Unavailable { reason, retry_after_s: RETRY_AFTER_S, placed })
            }
        }
    }
}

impl Target {
    fn validate(&self, records: &[NewRecord]) -> Vec<RecordFault> {
        let bytes = records.iter().map(|record| record.value.len()).sum();
        let mut batch = RawBatch::with_capacity(self.topic.clone(), 0, bytes);
        for (offset, record) in (0..).zip(records) {
            batch.push(offset, 0, None, Some(&record.value));
        }
        let decoded = self.decoder.lock().decode(&batch, 0..batch.len());
        let fault = |rejected: streamward_core::decode::Rejected| RecordFault {
            index: rejected.index as usize,
            field: field_of(&rejected.reason),
            reason: rejected.reason,
        };
        decoded.rejected.into_iter().map(fault).collect()
    }

    fn key_of(&self, record: &NewRecord) -> String {
        if let Some(key) = &record.key {
            return key.clone();
        }
        let value: serde_json::Value = serde_json::from_slice(&record.value).unwrap_or_default();
        match &value[&self.key] {
            serde_json::Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }
}

/// The path that a reason begins with (`metadata.battery_level: …`), or none.
fn field_of(reason: &str) -> Vec<String> {
    match reason.split_once(": ") {
        Some((path, _)) if path.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '.') => {
            path.split('.').map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

impl Ingest for KafkaIngest {
    fn append(&self, stream: &str, records: Vec<NewRecord>) -> Answer<'_, Vec<Placed>, IngestError> {
        let stream = stream.to_owned();
        Box::pin(async move { self.append_all(&stream, records).await })
    }

    fn warning(&self, stream: &str) -> Option<&str> {
        self.streams.get(stream)?.warning.as_deref()
    }
}
