//! Shows values to people: JSON text, or Avro in Confluent framing.
//!
//! Nobody knows what is in a topic, so all is bounded: the memory that a value takes, the schemas that are kept, how
//! often the registry is asked for an id that it did not answer.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use apache_avro::Schema;
use parking_lot::Mutex;
use serde_json::Value;
use streamward_core::{
    decode::avro::{FRAME_BYTES, MAGIC},
    ports::{Decoded, ValueDecoder},
};

use super::{avro, schemas::Schemas};

/// How long people wait for the schema of a value that they look at.
const DECODE_WITHIN: Duration = Duration::from_secs(2);
/// How long an id without an answer is not asked for again.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// Most memory that one Avro value takes, about.
const MAX_VALUE_BYTES: usize = 16 << 20;
/// Most schemas kept.
const MAX_PARSED: usize = 32;
/// Most ids without an answer kept.
const MAX_MISSING: usize = 1_024;

/// Decodes by the schemas of a registry.
pub struct SchemaDecoder {
    schemas: Arc<dyn Schemas>,
    /// None for a schema that is not Avro.
    parsed: Mutex<Recent<Option<Arc<Schema>>>>,
    /// When there was no answer.
    missing: Mutex<Recent<Instant>>,
}

impl SchemaDecoder {
    /// A decoder; bounds what the Avro library allocates at once, in the whole process.
    #[must_use]
    pub fn new(schemas: Arc<dyn Schemas>) -> Self {
        let most = apache_avro::util::max_allocation_bytes(MAX_VALUE_BYTES);
        tracing::debug!(most, "most bytes that the Avro library allocates at once");
        Self { schemas, parsed: Mutex::new(Recent::new(MAX_PARSED)), missing: Mutex::new(Recent::new(MAX_MISSING)) }
    }

    async fn schema(&self, id: u32) -> Option<Arc<Schema>> {
        if let Some(known) = self.parsed.lock().get(id) {
            return known.clone();
        }
        if self.missing.lock().get(id).is_some_and(|asked| asked.elapsed() < ASK_AGAIN_AFTER) {
            return None;
        }
        let asked = tokio::time::timeout(DECODE_WITHIN, self.schemas.schemas_to_show(&[id])).await;
        let Some(text) = asked.ok().and_then(Result::ok).and_then(|mut found| found.pop().flatten()) else {
            self.missing.lock().put(id, Instant::now());
            return None;
        };
        let parsed = avro::read(&text, &[], avro::Form::Canonical).ok().map(|schema| Arc::new(schema.parsed));
        self.parsed.lock().put(id, parsed.clone());
        parsed
    }
}

impl ValueDecoder for SchemaDecoder {
    fn decode<'a>(&'a self, value: &'a [u8]) -> Decoded<'a> {
        Box::pin(async move {
            if value.first() != Some(&MAGIC) {
                return serde_json::from_slice(value).ok();
            }
            let (frame, datum) = value.split_at_checked(FRAME_BYTES)?;
            let id = u32::from_be_bytes(frame[1..].try_into().ok()?);
            decode_datum(&*self.schema(id).await?, datum)
        })
    }
}

fn decode_datum(schema: &Schema, mut datum: &[u8]) -> Option<Value> {
    if !avro::is_within(schema, datum, MAX_VALUE_BYTES) {
        return None;
    }
    let reader = apache_avro::reader::datum::GenericDatumReader::builder(schema).build().ok()?;
    let value = reader.read_value(&mut datum).ok()?;
    // The reader takes a text that is cut short for a null, so its answer is checked.
    let is_whole = datum.is_empty() && value.validate(schema);
    is_whole.then(|| value.try_into().ok()).flatten()
}

#[cfg(test)]
pub(super) fn decode_text(schema: &str, datum: &[u8]) -> Option<Value> {
    decode_datum(&avro::read(schema, &[], avro::Form::Canonical).ok()?.parsed, datum)
}

/// What was last found for ids; forgets the oldest first.
struct Recent<T> {
    entries: BTreeMap<u32, T>,
    ids: VecDeque<u32>,
    most: usize,
}

impl<T> Recent<T> {
    fn new(most: usize) -> Self {
        Self { entries: BTreeMap::new(), ids: VecDeque::new(), most }
    }

    fn get(&self, id: u32) -> Option<&T> {
        self.entries.get(&id)
    }

    fn put(&mut self, id: u32, found: T) {
        if self.entries.insert(id, found).is_some() {
            return;
        }
        self.ids.push_back(id);
        if self.ids.len() > self.most
            && let Some(oldest) = self.ids.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use streamward_pipeline::{ports::SchemaSource, store::BoxFuture};

    use super::*;
    use crate::registry::schemas::RegisterError;

    /// Knows the id 1, an array of nulls, and counts what it is asked.
    #[derive(Default)]
    struct Counted(AtomicUsize);

    impl SchemaSource for Counted {
        fn schemas<'a>(&'a self, ids: &'a [u32]) -> BoxFuture<'a, Result<Vec<Option<Arc<str>>>, String>> {
            self.0.fetch_add(1, Ordering::Relaxed);
            let found = |id: &u32| (*id == 1).then(|| r#"{"type": "array", "items": "null"}"#.into());
            Box::pin(std::future::ready(Ok(ids.iter().map(found).collect())))
        }
    }

    impl Schemas for Counted {
        fn register<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<u32, RegisterError>> {
            Box::pin(std::future::ready(Err(RegisterError::Refused("read only".to_owned()))))
        }

        fn known<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Option<u32>, RegisterError>> {
            Box::pin(std::future::ready(Ok(None)))
        }

        fn held<'a>(&'a self, _: &'a str, _: &'a str) -> BoxFuture<'a, Result<Option<u32>, String>> {
            Box::pin(std::future::ready(Ok(None)))
        }

        fn latest<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<u32>, String>> {
            Box::pin(std::future::ready(Ok(None)))
        }
    }

    #[actix_web::test]
    async fn the_registry_is_asked_once_for_an_id_that_it_knows_and_for_one_that_it_does_not() {
        let counted = Arc::new(Counted::default());
        let decoder = SchemaDecoder::new(counted.clone());
        for _ in 0..3 {
            assert_eq!(decoder.decode(&[0, 0, 0, 0, 1, 0]).await, Some(serde_json::json!([])));
            assert_eq!(decoder.decode(&[0, 0, 0, 0, 9, 0]).await, None);
        }
        assert_eq!(counted.0.load(Ordering::Relaxed), 2);
    }

    #[actix_web::test]
    async fn few_bytes_that_stand_for_much_are_not_decoded() {
        let decoder = SchemaDecoder::new(Arc::new(Counted::default()));
        // 2^20 nulls in a block.
        assert_eq!(decoder.decode(&[0, 0, 0, 0, 1, 0x80, 0x80, 0x80, 0x01, 0]).await, None);
    }

    #[test]
    fn what_was_found_is_forgotten_from_the_oldest_on() {
        let mut recent = Recent::new(2);
        for id in [1, 2, 1, 3] {
            recent.put(id, ());
        }
        assert_eq!([1, 2, 3].map(|id| recent.get(id).is_some()), [false, true, true]);
    }
}
