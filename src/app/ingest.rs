//! `POST …/records`: validates against the stream's schema, writes through Kafka, answers with the broker's places.

use std::{collections::HashMap, sync::Arc, time::Duration};

use futures_util::future::join_all;
use parking_lot::Mutex;
use streamward_core::{
    batch::RawBatch,
    decode::{Decoder, Format},
    ports::{Answer, Ingest, IngestError, NewRecord, Placed, RecordFault},
    record::key_text,
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
    plan: Plan,
}

struct Target {
    topic: Arc<str>,
    /// Column of the stream's key.
    key: usize,
    decoder: Mutex<Decoder>,
    /// Why its records lead nowhere.
    warning: Option<String>,
}

impl KafkaIngest {
    /// Takes records for these streams.
    pub fn new(producer: KafkaProducer, ends: LogEnds, plan: &Plan) -> Self {
        let target = |stream: &StreamSetup| {
            let decoder = Decoder::new(stream.schema.clone(), stream.limits).with_format(Format::Json);
            let (topic, key, warning) = (stream.topic.clone(), stream.table.key, plan.warning(&stream.name));
            let target = Target { topic, key, decoder: Mutex::new(decoder), warning };
            (stream.name.to_string(), target)
        };
        Self { producer, ends, streams: plan.streams.iter().map(target).collect(), plan: plan.clone() }
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
        let keys = target.keys(&records).map_err(IngestError::Invalid)?;
        if let Some(why) = self.not_taken(&target.topic) {
            return Err(IngestError::NotTaken(why));
        }
        let sends = records.iter().zip(&keys).map(|(record, key)| {
            self.producer.send(Outgoing {
                topic: &target.topic,
                partition: None,
                key: key.as_deref().map(str::as_bytes),
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
    /// Keys of sound records: what a client gave, else the value of the stream's key, none where that is null.
    fn keys(&self, records: &[NewRecord]) -> Result<Vec<Option<String>>, Vec<RecordFault>> {
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
        if !decoded.rejected.is_empty() {
            return Err(decoded.rejected.into_iter().map(fault).collect());
        }
        let column = decoded.batch.column(self.key).as_ref();
        let own = |row| key_text(column, row).map(std::borrow::Cow::into_owned);
        Ok(records.iter().enumerate().map(|(row, record)| record.key.clone().or_else(|| own(row))).collect())
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

    fn difference(&self, stream: &str) -> Option<String> {
        let setup = self.plan.stream(stream)?;
        match self.ends.topic(&setup.topic)? {
            TopicLogs::Partitions(partitions) => setup.partitions_differ(partitions.len()),
            TopicLogs::Missing => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use streamward_core::{decode::DecodeLimits, schema::StreamSchema};

    use super::*;

    /// Kafka keys of records of a stream whose key is this field.
    fn keys(kind: &str, records: &[(Option<&str>, &str)]) -> Vec<Option<String>> {
        let schema = format!(
            r#"{{"type": "record", "name": "Fact", "fields": [{{"name": "meta", "type": {{"type": "record", "name": "Meta",
            "fields": [{{"name": "code", "type": ["null", {kind}], "default": null}}]}}}}]}}"#
        );
        let schema = Arc::new(StreamSchema::parse(&schema).unwrap());
        let decoder = Decoder::new(schema, DecodeLimits::default()).with_format(Format::Json);
        let target = Target { topic: "facts".into(), key: 0, decoder: Mutex::new(decoder), warning: None };
        let record = |(key, code): &(Option<&str>, &str)| NewRecord {
            key: key.map(str::to_owned),
            value: format!(r#"{{"meta": {{"code": {code}}}}}"#).into_bytes(),
        };
        target.keys(&records.iter().map(record).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn the_key_is_the_value_of_the_field_and_null_is_none() {
        let texts = [(None, r#""a""#), (None, r#""""#), (None, "null"), (None, r#""null""#), (Some("own"), r#""a""#)];
        assert_eq!(
            keys(r#""string""#, &texts),
            [Some("a"), Some(""), None, Some("null"), Some("own")].map(|key| key.map(str::to_owned))
        );
        let numbers = [(None, "7"), (None, "-7"), (None, "null")];
        for kind in [r#""int""#, r#""long""#] {
            assert_eq!(keys(kind, &numbers), [Some("7"), Some("-7"), None].map(|key| key.map(str::to_owned)));
        }
    }
}
