//! Ports that answer from constants and note what they were asked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use streamward_core::{
    ports::{
        AlertQuery, Answer, Appended, DeadLetterQuery, DeadLetterRow, Decoded, Full, Ingest, IngestError,
        InjectedFault, NewRecord, Operations, OpsCommand, OpsError, Page, Placed, PositionRow, ReadError, ReadStore,
        Readiness, RecordFault, Row, RowQuery, Session, SessionHost, StatsQuery, StreamStats, StreamSummary,
        ValueDecoder, WindowQuery,
    },
    schema::Kind,
    table::{Column, StreamTable},
};

/// Answers every port.
#[derive(Default)]
pub struct Fake {
    pub asked: Mutex<Vec<String>>,
    pub sessions: AtomicUsize,
    pub session_limit: usize,
    pub is_ready: bool,
}

impl Fake {
    pub fn note(&self, question: String) {
        self.asked.lock().push(question);
    }

    /// The last question asked.
    pub fn asked(&self) -> String {
        self.asked.lock().last().cloned().unwrap_or_default()
    }
}

fn row() -> Row {
    let Value::Object(row) = json!({"id": 7, "sensor_id": "sensor_001", "value": 21.5}) else {
        unreachable!("an object is an object");
    };
    row
}

fn page<T>(items: Vec<T>) -> Page<T> {
    Page { items, total: 12, total_is_estimate: true, next: Some("more".to_owned()) }
}

fn known(stream: &str) -> Result<(), ReadError> {
    match stream {
        "sensors" => Ok(()),
        "broken" => Err(ReadError::Unavailable("SELECT secret FROM rows".to_owned())),
        "slow" => Err(ReadError::Timeout),
        other => Err(ReadError::UnknownStream(other.to_owned())),
    }
}

pub fn ready<'a, T: Send + 'a, E: Send + 'a>(answer: Result<T, E>) -> Answer<'a, T, E> {
    Box::pin(std::future::ready(answer))
}

impl ReadStore for Fake {
    fn streams(&self, _: i64) -> Answer<'_, Vec<StreamSummary>, ReadError> {
        let column = |name: &str, kind| Column { name: name.to_owned(), path: name.to_owned(), kind, nullable: false };
        let table = StreamTable {
            stream: "sensors".into(),
            topic: "sensor-readings".into(),
            table: "sensor_readings".to_owned(),
            columns: vec![column("sensor_id", Kind::String), column("timestamp", Kind::Timestamp)],
            key: 0,
            event_time: 1,
            max_ahead_ms: 600_000,
            measure: None,
            anomaly: None,
            indexes: vec![0],
        };
        let windows = vec!["aggregated_metrics".to_owned()];
        let summary = StreamSummary {
            table,
            windows,
            stored: 5,
            dead: 1,
            filtered: 0,
            ahead: 2,
            late: 3,
            full: 0,
            in_gaps: 0,
            newest_event_ms: Some(1_735_689_600_000),
        };
        ready(Ok(vec![summary]))
    }

    fn latest(&self, query: RowQuery) -> Answer<'_, Page<Row>, ReadError> {
        self.note(format!("latest {query:?}"));
        if let Some((field, _)) = query.filters.iter().find(|(name, _)| name.starts_with("no_")) {
            let reason = "there is no such column; there are sensor_id and timestamp".to_owned();
            return ready(Err(ReadError::BadFilter { field: field.clone(), reason }));
        }
        ready(known(&query.stream).map(|()| page(vec![row()])))
    }

    fn anomalies(&self, query: RowQuery) -> Answer<'_, Page<Row>, ReadError> {
        self.note(format!("anomalies {query:?}"));
        ready(known(&query.stream).map(|()| page(vec![row()])))
    }

    fn stats(&self, query: StatsQuery) -> Answer<'_, StreamStats, ReadError> {
        self.note(format!("stats {} {}", query.stream, query.minutes));
        let from_ms = query.now_ms - 100_000;
        let stats =
            StreamStats { records: 250, anomalies: 3, active_keys: 10, mean: Some(21.456), overflows: false, from_ms };
        ready(known(&query.stream).map(|()| stats))
    }

    fn windows(&self, query: WindowQuery) -> Answer<'_, Page<Row>, ReadError> {
        self.note(format!("windows {query:?}"));
        ready(known(&query.stream).map(|()| page(vec![row()])))
    }

    fn alerts(&self, query: AlertQuery) -> Answer<'_, Page<Row>, ReadError> {
        self.note(format!("alerts {query:?}"));
        ready(Ok(page(vec![row()])))
    }

    fn dead_letters(&self, query: DeadLetterQuery) -> Answer<'_, Page<DeadLetterRow>, ReadError> {
        self.note(format!("dead_letters {query:?}"));
        ready(Ok(page(vec![letter(1, br#"{"value": "x"}"#), letter(2, &[0, 255])])))
    }

    fn dead_letter(&self, id: i64) -> Answer<'_, Option<DeadLetterRow>, ReadError> {
        ready(Ok((id == 1).then(|| letter(1, b"{}"))))
    }

    fn positions(&self) -> Answer<'_, Vec<PositionRow>, ReadError> {
        ready(Ok(Vec::new()))
    }
}

fn letter(id: i64, value: &[u8]) -> DeadLetterRow {
    DeadLetterRow {
        id,
        sink: "sensors".to_owned(),
        topic: "sensor-readings".to_owned(),
        partition: 0,
        offset: 9,
        stage: "decode".to_owned(),
        class: "contract".to_owned(),
        reason: "value: not a number".to_owned(),
        state: "dead".to_owned(),
        key: Some(b"k".to_vec()),
        value: Some(value.to_vec()),
        value_length: value.len() as u64,
        headers: json!([]),
        log_timestamp_ms: 1_735_689_600_000,
        created_at_ms: 1_735_689_600_000,
        undeliverable: None,
    }
}

impl ValueDecoder for Fake {
    fn decode<'a>(&'a self, value: &'a [u8]) -> Decoded<'a> {
        Box::pin(std::future::ready(serde_json::from_slice(value).ok()))
    }
}

impl Ingest for Fake {
    fn warning(&self, stream: &str) -> Option<&str> {
        (stream == "sensors").then_some("no pipeline reads it")
    }

    fn difference(&self, stream: &str) -> Option<String> {
        (stream == "sensors").then(|| "its topic has 3 partitions".to_owned())
    }

    fn append(&self, stream: &str, records: Vec<NewRecord>) -> Answer<'_, Appended, IngestError> {
        self.note(format!("append {stream} {}", records.len()));
        let bad = records.iter().position(|record| record.value == b"{}");
        let fault = |index| RecordFault {
            index,
            field: vec!["value".to_owned()],
            reason: "it is missing".to_owned(),
            input: json!("x"),
        };
        let placed = |offset| Placed { partition: 1, offset };
        ready(match (stream, bad) {
            ("sensors", Some(index)) => Err(IngestError::Invalid(vec![fault(index)])),
            ("sensors", None) => Ok(Appended {
                placed: (0..).map(placed).take(records.len()).collect(),
                ignored_fields: if records.len() == 1 { vec!["valeu".to_owned()] } else { Vec::new() },
            }),
            ("full", _) => Err(IngestError::Unavailable {
                broker: "Kafka at k:9092".to_owned(),
                reason: "broker at 10.0.0.1 is down".to_owned(),
                retry_after_s: 7,
                placed: vec![Some(placed(3)), None],
            }),
            (other, _) => Err(IngestError::UnknownStream(other.to_owned())),
        })
    }
}

impl Operations for Fake {
    fn tree(&self) -> Answer<'_, Value, OpsError> {
        ready(Ok(json!({"path": "root", "children": []})))
    }

    fn events(&self, after_seq: u64, limit: u32) -> Answer<'_, Page<Value>, OpsError> {
        self.note(format!("events {after_seq} {limit}"));
        let items = vec![json!({"seq": after_seq + 1})];
        ready(Ok(Page { items, total: 3, total_is_estimate: false, next: Some((after_seq + 1).to_string()) }))
    }

    fn drills(&self) -> Value {
        json!({"drills": true, "faults": []})
    }

    fn command(&self, path: &str, command: OpsCommand, who: &str) -> Answer<'_, Value, OpsError> {
        self.note(format!("{who}: {path} {command:?}"));
        ready(match (path, command) {
            ("root/nobody", _) => Err(OpsError::UnknownPath(path.to_owned())),
            ("root/sink", OpsCommand::Inject(_)) => Err(OpsError::DrillsDisabled),
            ("root/broker", OpsCommand::Pause) => Err(OpsError::Refused("the broker cannot pause".to_owned())),
            _ => Ok(json!({"state": "running"})),
        })
    }

    fn drill(&self, path: &str, fault: InjectedFault, within: Duration, who: &str) -> Answer<'_, Value, OpsError> {
        self.note(format!("{who}: {path} drill {:?} {within:?}", fault.fault));
        ready(Ok(json!({"recovered_after_ms": 3})))
    }

    fn set_policy(&self, path: &str, patch: Map<String, Value>, who: &str) -> Answer<'_, Value, OpsError> {
        self.note(format!("{who}: {path} {}", Value::Object(patch.clone())));
        let invalid = || OpsError::Invalid { field: "backoff.factor".to_owned(), reason: "too small".to_owned() };
        ready(if patch.contains_key("backoff") { Err(invalid()) } else { Ok(json!({"state": "running"})) })
    }

    fn topology(&self) -> Answer<'_, Value, OpsError> {
        ready(Ok(json!({"pipelines": []})))
    }

    fn lag(&self) -> Answer<'_, Vec<Value>, OpsError> {
        ready(Ok(vec![json!({"partition": 0, "records": 5, "seconds": 0.1})]))
    }

    fn readiness(&self) -> Readiness {
        let reasons = if self.is_ready { Vec::new() } else { vec!["sensors is not assigned yet".to_owned()] };
        let degraded = vec!["partition 3 stands still".to_owned()];
        Readiness { ready: self.is_ready, reasons, degraded, standing_still: vec![json!({"cause": "gap"})] }
    }

    fn metrics_text(&self) -> String {
        "streamward_records_total 1\n".to_owned()
    }
}

/// Runs sessions as plain local tasks.
pub struct LocalHost(pub Arc<Fake>);

impl SessionHost for LocalHost {
    #[expect(clippy::disallowed_methods, reason = "this stands for the supervision that starts sessions")]
    fn start(&self, _: String, session: Session) -> Result<(), Full> {
        let fake = Arc::clone(&self.0);
        if fake.sessions.fetch_add(1, Ordering::SeqCst) >= fake.session_limit {
            fake.sessions.fetch_sub(1, Ordering::SeqCst);
            return Err(Full);
        }
        actix_web::rt::spawn(async move {
            session.await;
            fake.sessions.fetch_sub(1, Ordering::SeqCst);
        });
        Ok(())
    }
}
