//! Facts as a database hands them out, and how each looks as a Kafka record.

use streamward_core::schema::instant;

use super::{EntryId, Fact};

/// A transition of an alert.
#[derive(Debug, Clone, PartialEq)]
pub struct AlertFact {
    pub entry: EntryId,
    pub alert_id: String,
    pub n: i64,
    pub rule: String,
    pub stream: String,
    /// A record without a key has none.
    pub key: Option<String>,
    pub severity: String,
    pub state: String,
    pub message: String,
    /// The record that caused the transition, as JSON.
    pub record: String,
    pub event_time_ms: i64,
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub created_at_ms: i64,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetterFact {
    pub entry: EntryId,
    pub topic: String,
    pub partition: i32,
    /// Number of the log among those of its topic.
    pub log: i64,
    pub offset: i64,
    pub class: String,
    pub reason: String,
    pub stage: String,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    /// The record's own.
    pub headers: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    pub log_timestamp_ms: i64,
    pub created_at_ms: i64,
}

/// A JSON object with the record's key as its key; transitions of a rule's key are in one order.
impl From<AlertFact> for Fact {
    fn from(alert: AlertFact) -> Self {
        let record: serde_json::Value = serde_json::from_str(&alert.record).unwrap_or_default();
        let in_order = serde_json::json!([alert.rule, alert.key]).to_string();
        let json = serde_json::json!({
            "alert_id": alert.alert_id, "n": alert.n, "rule": alert.rule, "stream": alert.stream, "key": alert.key,
            "severity": alert.severity, "state": alert.state, "message": alert.message, "record": record,
            "event_time": rfc3339(alert.event_time_ms), "topic": alert.topic, "partition": alert.partition,
            "offset": alert.offset, "created_at": rfc3339(alert.created_at_ms),
        });
        Self {
            entry: alert.entry,
            in_order: Some(in_order),
            key: alert.key.map(String::into_bytes),
            value: Some(json.to_string().into_bytes()),
            headers: Vec::new(),
        }
    }
}

/// The record as it was, with `x-dlq-` headers behind its own.
impl From<DeadLetterFact> for Fact {
    fn from(letter: DeadLetterFact) -> Self {
        let DeadLetterFact { entry, topic, partition, log, offset, mut headers, .. } = letter;
        let mut id = format!("{}/{topic}/{partition}/{offset}", entry.sink);
        if log > 0 {
            // A topic that was made anew counts its offsets anew.
            id = format!("{id}/{log}");
        }
        let own = [
            ("x-dlq-id", id),
            ("x-dlq-original-topic", topic),
            ("x-dlq-original-partition", partition.to_string()),
            ("x-dlq-original-offset", offset.to_string()),
            ("x-dlq-original-timestamp", letter.log_timestamp_ms.to_string()),
            ("x-dlq-failed-at", rfc3339(letter.created_at_ms)),
            ("x-dlq-class", letter.class),
            ("x-dlq-reason", letter.reason),
            ("x-dlq-stage", letter.stage),
        ];
        headers.extend(own.map(|(name, value)| (name.as_bytes().to_vec(), Some(value.into_bytes()))));
        Self { entry, in_order: None, key: letter.key, value: letter.value, headers }
    }
}

impl Fact {
    /// Bytes of key, value and headers.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + length(value)).sum();
        length(&self.key) + length(&self.value) + headers
    }
}

fn rfc3339(ms: i64) -> String {
    let mut text = Vec::with_capacity(24);
    instant::write(ms, &mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(log: i64) -> DeadLetterFact {
        DeadLetterFact {
            entry: EntryId { sink: "orders".to_owned(), fact: 3 },
            topic: "t".to_owned(),
            partition: 1,
            log,
            offset: 2,
            class: "decode".to_owned(),
            reason: "not JSON".to_owned(),
            stage: "decode".to_owned(),
            key: None,
            value: Some(b"{".to_vec()),
            headers: vec![(b"trace".to_vec(), None)],
            log_timestamp_ms: 7,
            created_at_ms: 0,
        }
    }

    #[test]
    fn the_id_of_a_dead_letter_names_the_log_of_a_topic_that_was_made_anew() {
        let ids = [0, 4].map(|log| {
            let fact = Fact::from(letter(log));
            assert_eq!(fact.headers[0], (b"trace".to_vec(), None), "the record's own come first");
            String::from_utf8(fact.headers[1].1.clone().unwrap()).unwrap()
        });
        assert_eq!(ids, ["orders/t/1/2", "orders/t/1/2/4"]);
    }
}
