//! From the raw records of a batch to Arrow columns: JSON and Avro, told apart record by record.
//!
//! Each record is good or bad on its own: a bad one becomes a [`Rejected`] with its class and an exact reason (the
//! field's path and the fault, never the payload) and leaves no trace in the columns. Decoding never fails as a whole
//! and never panics, whatever the bytes.
//!
//! Not here: asking a registry (the shell does: [`Decoder::unresolved_ids`], then [`Decoder::add_writer_schema`] or
//! [`Decoder::add_missing`]), what happens to dead letters, event time.
//!
//! Start at [`Decoder::decode`]; `json` and `avro` fill a `row`, `columns` takes whole rows alone.

pub mod avro;
mod columns;
mod exact;
mod fault;
mod field_faults;
mod ignored;
mod json;
mod row;
#[cfg(test)]
mod tests;
mod writers;

use std::{collections::HashSet, ops::Range, sync::Arc};

use arrow_array::RecordBatch;

pub use columns::MAX_BATCH_TEXT_BYTES;
pub use fault::MAX_REASON_BYTES;
pub use field_faults::FieldFault;
pub use ignored::{MAX_IGNORED_NAMES, ignored_fields};
pub use writers::{MAX_MISSING_IDS, MAX_WRITER_SCHEMAS};

use crate::{
    batch::{RawBatch, RawRecord},
    output::{DeadLetter, ErrorClass},
    schema::{SchemaError, StreamSchema},
};
use columns::Columns;
use fault::Fault;
use json::JsonReader;
use row::Row;
use writers::{Writer, Writers};

/// Stage of dead letters that could not be decoded.
pub const STAGE: &str = "decode";

/// How the values of a stream are encoded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// Avro if a value's first byte is 0, JSON otherwise (no JSON text begins with that byte).
    #[default]
    Auto,
    Json,
    /// Avro in Confluent framing.
    Avro,
}

/// Bounds of what is decoded.
#[derive(Debug, Clone, Copy)]
pub struct DecodeLimits {
    /// Longest value, in bytes; a longer one is rejected unread.
    pub max_record_bytes: usize,
}

impl Default for DecodeLimits {
    fn default() -> Self {
        Self { max_record_bytes: 1 << 20 }
    }
}

/// The good and the bad of a range of records.
#[derive(Debug)]
pub struct Decoded {
    /// The good records, in log order, with the columns of `StreamSchema::arrow`.
    pub batch: RecordBatch,
    /// For each row its index in the raw batch; ascends.
    pub rows: Vec<u32>,
    /// The bad records, in log order.
    pub rejected: Vec<Rejected>,
    /// Fields met in the good records that the schema does not have.
    pub unknown_fields: u64,
}

/// A record that could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejected {
    /// Index in the raw batch.
    pub index: u32,
    pub class: ErrorClass,
    /// The field's path and the fault, at most [`MAX_REASON_BYTES`], without the payload.
    pub reason: String,
}

/// Decodes the values of one stream. Keeps compiled writer schemas and a memory of the usual order of JSON keys.
#[derive(Debug)]
pub struct Decoder {
    schema: Arc<StreamSchema>,
    limits: DecodeLimits,
    format: Format,
    writers: Writers,
    json: JsonReader,
}

impl Decoder {
    /// A decoder for [`Format::Auto`] that knows no writer schema yet.
    #[must_use]
    pub fn new(schema: Arc<StreamSchema>, limits: DecodeLimits) -> Self {
        let json = JsonReader::new(&schema);
        Self { schema, limits, format: Format::Auto, writers: Writers::default(), json }
    }

    /// Takes every value for one format.
    #[must_use]
    pub fn with_format(self, format: Format) -> Self {
        Self { format, ..self }
    }

    /// The stream's schema.
    #[must_use]
    pub fn schema(&self) -> &Arc<StreamSchema> {
        &self.schema
    }

    /// Ids of writer schemas that the batch needs and that are neither known nor known to be missing, each once, in
    /// the order met. Resolve them before [`Decoder::decode`]. Old schemas that are too many are forgotten, but none that
    /// the batch needs.
    #[must_use]
    pub fn unresolved_ids(&mut self, batch: &RawBatch) -> Vec<u32> {
        if self.format == Format::Json {
            return Vec::new();
        }
        if self.writers.has_too_many() {
            self.writers.forget_oldest(&schema_ids(batch).collect());
        }
        let mut ids = Vec::new();
        let mut met = HashSet::new();
        let mut last = None;
        for id in schema_ids(batch) {
            if last.replace(id) != Some(id) && self.writers.get(id).is_none() && met.insert(id) {
                ids.push(id);
            }
        }
        ids
    }

    /// Compiles the writer schema of an id.
    ///
    /// # Errors
    /// [`SchemaError`] if no record of that schema can be read. The id then counts as resolved: its records are
    /// rejected with that reason.
    pub fn add_writer_schema(&mut self, id: u32, avro_json: &str) -> Result<(), SchemaError> {
        match avro::compile(avro_json, &self.schema) {
            Ok(plan) => {
                self.writers.insert(id, Writer::Plan(plan));
                Ok(())
            }
            Err(error) => {
                self.writers.insert(id, Writer::Unreadable(error.to_string()));
                Err(error)
            }
        }
    }

    /// Notes that the registry does not know an id: its records are rejected.
    pub fn add_missing(&mut self, id: u32) {
        self.writers.insert(id, Writer::Missing);
    }

    /// Forgets all missing ids, so that they are asked for again: a schema may have been registered since.
    pub fn forget_missing(&mut self) {
        self.writers.forget_missing();
    }

    /// Decodes the records of `range` (indexes in `batch`, cut to its length). Every one of them is a row or rejected.
    /// A record whose schema id is unresolved counts as one with an unknown id.
    pub fn decode(&mut self, batch: &RawBatch, range: Range<usize>) -> Decoded {
        let schema = Arc::clone(&self.schema);
        let range = range.start.min(batch.len())..range.end.min(batch.len());
        let mut columns = Columns::new(&schema, range.len());
        let mut row = Row::new(schema.fields.len());
        let mut rows = Vec::with_capacity(range.len());
        let mut rejected = Vec::new();
        let mut unknown_fields = 0;
        for position in range {
            let index = u32::try_from(position).expect("a batch holds fewer than 2^32 records: its arena has 4 GiB");
            row.clear();
            let value = batch.get(position).value();
            let read = self.read(&schema, value, &mut row);
            let bytes = value.map_or(0, <[u8]>::len);
            match read.and_then(|unknown| columns.append(&row, bytes).map(|()| unknown)) {
                Ok(unknown) => {
                    unknown_fields += unknown;
                    rows.push(index);
                }
                Err(fault) => rejected.push(Rejected { index, class: fault.class, reason: fault.reason }),
            }
        }
        Decoded { batch: columns.finish(&schema), rows, rejected, unknown_fields }
    }

    fn read<'a>(
        &mut self,
        schema: &'a StreamSchema,
        value: Option<&'a [u8]>,
        row: &mut Row<'a>,
    ) -> Result<u64, Box<Fault>> {
        let value = value.ok_or_else(|| Fault::contract("null value"))?;
        let (bytes, limit) = (value.len(), self.limits.max_record_bytes);
        if bytes > limit {
            return Err(Fault::contract(format!("the value has {bytes} bytes, the limit is {limit}")));
        }
        let is_avro = match self.format {
            Format::Auto => value.first() == Some(&avro::MAGIC),
            Format::Json => false,
            Format::Avro => true,
        };
        let unknown = if is_avro { self.read_avro(schema, value, row)? } else { self.json.read(schema, value, row)? };
        row.complete(schema)?;
        Ok(unknown)
    }

    fn read_avro<'a>(&self, schema: &'a StreamSchema, value: &'a [u8], row: &mut Row<'a>) -> Result<u64, Box<Fault>> {
        let (id, datum) = avro::unframe(value)?;
        match self.writers.get(id) {
            Some(Writer::Plan(plan)) => plan.read(schema, datum, row),
            Some(Writer::Unreadable(reason)) => {
                Err(Fault::contract(format!("schema id {id} cannot be read: {reason}")))
            }
            Some(Writer::Missing) | None => Err(Fault::contract(format!("unknown schema id {id}"))),
        }
    }
}

/// The schema id of each framed value.
fn schema_ids(batch: &RawBatch) -> impl Iterator<Item = u32> {
    batch.iter().filter_map(|record| avro::schema_id(record.value()?))
}

/// The dead letter of a rejected record: its bytes exactly as they were.
#[must_use]
pub fn dead_letter(record: &RawRecord<'_>, rejected: &Rejected, stage: &str) -> DeadLetter {
    DeadLetter {
        offset: record.offset(),
        log_timestamp_ms: record.log_timestamp_ms(),
        class: rejected.class,
        reason: rejected.reason.clone(),
        stage: stage.to_owned(),
        key: record.key().map(<[u8]>::to_vec),
        value: record.value().map(<[u8]>::to_vec),
        headers: record.headers().map(|(name, value)| (name.to_vec(), value.map(<[u8]>::to_vec))).collect(),
    }
}
