//! `POST …/records`: validates against the stream's schema, writes through Kafka, answers with the broker's places.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use futures_util::future::join_all;
use parking_lot::Mutex;
use serde_json::Value;
use streamward_core::{
    batch::RawBatch,
    decode::{Decoder, FieldFault, Format, Rejected, ignored_fields},
    ports::{Answer, Appended, Ingest, IngestError, NewRecord, Placed, RecordFault},
    record::key_text,
};

use super::lag::{LogEnds, TopicLogs};
use crate::{
    adapters::kafka::producer::{KafkaProducer, Outgoing, ProduceError},
    plan::{Plan, StreamSetup},
};

const RETRY_AFTER_S: u32 = 1;
/// Most faults of single fields that one request is told; of further records it is told the first.
const MAX_FIELD_FAULTS: usize = 1_000;
/// Longest input that a fault shows, in characters.
const MAX_INPUT_CHARS: usize = 200;
/// How long the cluster may be silent before records are refused at once.
const SILENT_AFTER: Duration = Duration::from_secs(2);

/// Writes records of clients.
pub struct KafkaIngest {
    producer: KafkaProducer,
    /// Whom it writes to, as people know it.
    broker: String,
    ends: LogEnds,
    streams: HashMap<String, Target>,
    plan: Plan,
}

struct Target {
    topic: Arc<str>,
    /// Column of the stream's key.
    key: usize,
    decoder: Mutex<Decoder>,
    /// Why it takes nothing that is posted.
    refusal: Option<String>,
    /// Why its records lead nowhere.
    warning: Option<String>,
}

impl KafkaIngest {
    /// Takes records for these streams.
    pub fn new((producer, broker): (KafkaProducer, String), ends: LogEnds, plan: &Plan) -> Self {
        let target = |stream: &StreamSetup| {
            let decoder = Decoder::new(stream.schema.clone(), stream.limits).with_format(Format::Json);
            let (topic, key, warning) = (stream.topic.clone(), stream.table.key, plan.warning(&stream.name));
            let refusal = stream.takes_no_json();
            let target = Target { topic, key, decoder: Mutex::new(decoder), refusal, warning };
            (stream.name.to_string(), target)
        };
        Self { producer, broker, ends, streams: plan.streams.iter().map(target).collect(), plan: plan.clone() }
    }

    /// Why a topic takes no records, if that is known: nobody needs to wait to learn it.
    fn not_taken(&self, topic: &Arc<str>) -> Option<String> {
        if self.ends.topic(topic) == Some(TopicLogs::Missing) {
            return Some(format!("topic {topic} does not exist: it was deleted"));
        }
        let (lasting, _) = self.ends.silence()?;
        (lasting > SILENT_AFTER).then(|| format!("{} has not answered for {} s", self.broker, lasting.as_secs()))
    }

    async fn append_all(&self, stream: &str, records: Vec<NewRecord>) -> Result<Appended, IngestError> {
        let target = self.streams.get(stream).ok_or_else(|| IngestError::UnknownStream(stream.to_owned()))?;
        if let Some(reason) = target.refusal.clone() {
            let fault = RecordFault { index: 0, field: Vec::new(), reason, input: Value::Null };
            return Err(IngestError::Invalid(vec![fault]));
        }
        let Sound { keys, ignored_fields } = target.sound(&records).map_err(IngestError::Invalid)?;
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
        let broker = self.broker.clone();
        match sent.into_iter().find_map(Result::err) {
            None => Ok(Appended { placed: placed.into_iter().flatten().collect(), ignored_fields }),
            Some(ProduceError::Refused(code)) => {
                Err(IngestError::Unavailable { broker, reason: code.to_string(), retry_after_s: RETRY_AFTER_S, placed })
            }
            Some(ProduceError::Unavailable(reason)) => {
                Err(IngestError::Unavailable { broker, reason, retry_after_s: RETRY_AFTER_S, placed })
            }
        }
    }
}

/// What is known of records that all fit the schema.
struct Sound {
    /// What a client gave, else the value of the stream's key, none where that is null.
    keys: Vec<Option<String>>,
    ignored_fields: Vec<String>,
}

impl Target {
    fn sound(&self, records: &[NewRecord]) -> Result<Sound, Vec<RecordFault>> {
        let bytes = records.iter().map(|record| record.value.len()).sum();
        let mut batch = RawBatch::with_capacity(self.topic.clone(), 0, bytes);
        for (offset, record) in (0..).zip(records) {
            batch.push(offset, 0, None, Some(&record.value));
        }
        let mut decoder = self.decoder.lock();
        let decoded = decoder.decode(&batch, 0..batch.len());
        if !decoded.rejected.is_empty() {
            return Err(faults(&mut decoder, records, decoded.rejected));
        }
        let schema = Arc::clone(decoder.schema());
        drop(decoder);
        let mut names = BTreeSet::new();
        if decoded.unknown_fields > 0 {
            records.iter().for_each(|record| ignored_fields(&schema, &record.value, &mut names));
        }
        let column = decoded.batch.column(self.key).as_ref();
        let own = |row| key_text(column, row).map(std::borrow::Cow::into_owned);
        let keys = records.iter().enumerate().map(|(row, record)| record.key.clone().or_else(|| own(row))).collect();
        Ok(Sound { keys, ignored_fields: names.into_iter().collect() })
    }
}

/// What is wrong with the rejected records, field by field where single fields are at fault.
fn faults(decoder: &mut Decoder, records: &[NewRecord], rejected: Vec<Rejected>) -> Vec<RecordFault> {
    let mut faults = Vec::with_capacity(rejected.len());
    for Rejected { index, reason, .. } in rejected {
        let index = index as usize;
        let is_told_all = faults.len() < MAX_FIELD_FAULTS;
        let fields = if is_told_all { decoder.field_faults(&records[index].value) } else { Vec::new() };
        if fields.is_empty() {
            faults.push(RecordFault { index, field: field_of(&reason), reason, input: Value::Null });
        }
        faults.extend(fields.into_iter().map(|FieldFault { path, reason, input }| RecordFault {
            index,
            field: path,
            reason,
            input: input.map_or(Value::Null, short),
        }));
    }
    faults
}

/// A value as a fault shows it: a text is cut, anything else that is long becomes the beginning of its JSON.
fn short(value: Value) -> Value {
    let cut = |text: &str| text.chars().take(MAX_INPUT_CHARS).collect::<String>().into();
    match value {
        Value::String(text) => cut(&text),
        Value::Array(_) | Value::Object(_) => {
            let text = value.to_string();
            if text.chars().nth(MAX_INPUT_CHARS).is_some() { cut(&text) } else { value }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => value,
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
    fn append(&self, stream: &str, records: Vec<NewRecord>) -> Answer<'_, Appended, IngestError> {
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
        let target =
            Target { topic: "facts".into(), key: 0, decoder: Mutex::new(decoder), refusal: None, warning: None };
        let record = |(key, code): &(Option<&str>, &str)| NewRecord {
            key: key.map(str::to_owned),
            value: format!(r#"{{"meta": {{"code": {code}}}}}"#).into_bytes(),
        };
        target.sound(&records.iter().map(record).collect::<Vec<_>>()).unwrap().keys
    }

    #[test]
    fn a_request_is_told_every_wrong_field_of_every_record_with_its_input() {
        use serde_json::json;

        let schema = r#"{"type": "record", "name": "Fact", "fields": [
            {"name": "code", "type": "int"}, {"name": "name", "type": "string"}, {"name": "free", "type": ["null", "long"], "default": null},
            {"name": "meta", "type": {"type": "record", "name": "Meta", "fields": [{"name": "a", "type": "double"}, {"name": "b", "type": "boolean"}]}}]}"#;
        let schema = Arc::new(StreamSchema::parse(schema).unwrap());
        let decoder = Decoder::new(schema, DecodeLimits::default()).with_format(Format::Json);
        let target =
            Target { topic: "facts".into(), key: 0, decoder: Mutex::new(decoder), refusal: None, warning: None };
        let long = "é".repeat(300);
        let sound = json!({"code": 1, "name": "n", "meta": {"a": 1, "b": true}});
        let records = [
            sound.clone(),
            json!({"code": long, "free": 1.5, "meta": {"a": null, "b": [long]}}),
            json!({"code": 1, "name": "n", "meta": [7]}),
            json!(7),
            sound,
        ];
        let records = records.map(|record| NewRecord { key: None, value: record.to_string().into_bytes() });
        let told = target.sound(&records).err().unwrap();
        let told: Vec<_> = told
            .iter()
            .map(|fault| (fault.index, fault.field.join("."), fault.reason.as_str(), &fault.input))
            .collect();
        let cut = json!("é".repeat(200));
        let list = json!(format!("[\"{}", "é".repeat(198)));
        let expected = [
            (1, "code", "code: found a string, expected an int", &cut),
            (1, "name", "name: missing and without default", &Value::Null),
            (1, "free", "free: found a number that is not written as an integer, expected a long", &json!(1.5)),
            (1, "meta.a", "meta.a: found null, expected a double", &Value::Null),
            (1, "meta.b", "meta.b: found an array, expected a boolean", &list),
            (2, "meta", "meta: found an array, expected an object", &json!([7])),
            (3, "", "the value: found a number, expected an object", &Value::Null),
        ];
        assert_eq!(told, expected.map(|(index, field, reason, input)| (index, field.to_owned(), reason, input)));
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
