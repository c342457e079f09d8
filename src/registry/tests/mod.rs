//! The registry on a log in memory: in process, over REST, with several writers, after a crash and after compaction.

mod compatibility;
mod deletion;
mod errors;
mod evolution;
mod identity;
mod lost;
mod rest;
mod storage;

use std::sync::Arc;

use actix_web::{
    App,
    http::Method,
    test::{TestRequest, call_service, init_service, read_body},
    web::Data,
};
use parking_lot::Mutex;
use serde_json::Value;

use super::{
    ClusterIds, Registry, Submission,
    highest::HighestId,
    log::{LogError, Record, SchemaLog},
    rest::routes,
};

pub const A: &str = r#"{"name":"a","type":"string"}"#;
pub const B_REQUIRED: &str = r#"{"name":"b","type":"int"}"#;
pub const B_DEFAULT: &str = r#"{"name":"b","type":"int","default":0}"#;

/// A record named R.
pub fn schema(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#)
}

pub fn avro(fields: &str) -> Submission {
    Submission::avro(&schema(fields))
}

/// A topic that several registries may have open.
#[derive(Clone, Default)]
pub struct Topic(Arc<Mutex<Content>>);

#[derive(Default)]
struct Content {
    records: Vec<Record>,
    /// Who claimed last.
    owner: u64,
    /// What becomes of the next write.
    fault: Option<Fault>,
    /// How often it was read.
    reads: usize,
    /// How often it was deleted.
    incarnation: u32,
    is_missing: bool,
    appends: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Written, but the writer does not hear of it.
    Unheard,
    /// Not written, and nothing can be written any more.
    Down,
}

impl Topic {
    pub fn open(&self) -> Registry {
        self.open_with(HighestId::in_memory())
    }

    pub fn open_with(&self, highest: HighestId) -> Registry {
        Registry::open(self.log(), highest).expect("a log in memory")
    }

    pub fn log(&self) -> Box<dyn SchemaLog> {
        Box::new(MemoryLog { topic: self.clone(), claim: 0, next: 0, incarnation: self.0.lock().incarnation })
    }

    /// A registry that holds at most so many bytes.
    pub fn open_bounded(&self, max_bytes: usize) -> Registry {
        Registry::bounded(self.log(), HighestId::in_memory(), max_bytes).expect("a log in memory")
    }

    pub fn reads(&self) -> usize {
        self.0.lock().reads
    }

    pub fn fail(&self, fault: Fault) {
        self.0.lock().fault = Some(fault);
    }

    pub fn records(&self) -> Vec<Record> {
        self.0.lock().records.clone()
    }

    /// Deletes it; whoever renews it first makes it again.
    pub fn delete(&self) {
        let mut content = self.0.lock();
        let incarnation = content.incarnation + 1;
        *content = Content { incarnation, is_missing: true, ..Content::default() };
    }

    /// Nothing is the matter with it any more.
    pub fn recover(&self) {
        self.0.lock().fault = None;
    }

    /// Writes so far.
    pub fn appends(&self) -> usize {
        self.0.lock().appends
    }

    /// Makes it again, without records.
    pub fn make(&self) {
        self.0.lock().is_missing = false;
    }

    pub fn append(&self, key: &str, value: &str) {
        self.0.lock().records.push(Record { key: key.into(), value: Some(value.into()) });
    }

    /// A topic with what compaction leaves of this one: the last record of each key, and no tombstones.
    pub fn compacted(&self) -> Self {
        let records = self.records();
        let is_last = |(at, record): &(usize, &Record)| records[at + 1..].iter().all(|later| later.key != record.key);
        let kept = records.iter().enumerate().filter(is_last).map(|(_, record)| record.clone());
        let records = kept.filter(|record| record.value.is_some()).collect();
        Self(Arc::new(Mutex::new(Content { records, ..Content::default() })))
    }
}

struct MemoryLog {
    topic: Topic,
    claim: u64,
    next: usize,
    incarnation: u32,
}

impl MemoryLog {
    fn check_same(&self) -> Result<(), LogError> {
        let content = self.topic.0.lock();
        if content.is_missing || content.incarnation != self.incarnation {
            return Err(LogError::Lost("deleted".to_owned()));
        }
        Ok(())
    }
}

impl SchemaLog for MemoryLog {
    fn read(&mut self, visit: &mut dyn FnMut(Record)) -> Result<(), LogError> {
        self.check_same()?;
        self.topic.0.lock().reads += 1;
        let records = self.topic.records();
        records[self.next..].iter().for_each(|record| visit(record.clone()));
        self.next = records.len();
        Ok(())
    }

    fn claim(&mut self) -> Result<(), LogError> {
        let mut content = self.topic.0.lock();
        if content.fault == Some(Fault::Down) {
            return Err(LogError::Unavailable("down".to_owned()));
        }
        content.owner += 1;
        self.claim = content.owner;
        Ok(())
    }

    fn append(&mut self, records: &[Record]) -> Result<(), LogError> {
        let mut content = self.topic.0.lock();
        if content.is_missing || content.owner != self.claim {
            return Err(LogError::Superseded("fenced".to_owned()));
        }
        content.appends += 1;
        match content.fault {
            Some(Fault::Down) => return Err(LogError::Superseded("down".to_owned())),
            Some(Fault::Unheard) | None => content.records.extend_from_slice(records),
        }
        match content.fault.take() {
            Some(_) => Err(LogError::Superseded("no answer".to_owned())),
            None => Ok(()),
        }
    }

    fn renew(&mut self) -> Result<(), LogError> {
        let mut content = self.topic.0.lock();
        if content.fault == Some(Fault::Down) {
            return Err(LogError::Unavailable("down".to_owned()));
        }
        content.is_missing = false;
        (self.next, self.claim, self.incarnation) = (0, 0, content.incarnation);
        Ok(())
    }
}

pub async fn call(registry: &Registry, method: Method, path: &str, body: Value) -> (u16, Value) {
    let app = App::new().app_data(Data::new(registry.clone())).app_data(Data::new(ClusterIds::default()));
    let app = init_service(app.configure(routes)).await;
    let request = TestRequest::with_uri(path).method(method).set_payload(body.to_string());
    let response = call_service(&app, request.to_request()).await;
    let status = response.status();
    let kind = response.headers().get("content-type").expect("every answer has a type");
    assert_eq!(kind, "application/vnd.schemaregistry.v1+json");
    let body = read_body(response).await;
    (status.as_u16(), serde_json::from_slice(&body).unwrap_or(Value::Null))
}
