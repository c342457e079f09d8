//! Avro object container files, by the schema each file carries.

use std::io::BufReader;

use apache_avro::Reader;
use apache_avro::schema::Schema;
use apache_avro::types::Value as AvroValue;
use jiff::Timestamp;
use serde_json::{Map, Number, Value};

use super::ReplayRecord;
use super::error::ReadFault;
use super::ignored::Ignored;
use super::mapping::{Cell, Mapper, find};
use super::meter::Metered;

/// Reads the records of one file.
pub(super) struct AvroSource {
    reader: Reader<'static, BufReader<Metered>>,
    columns: Vec<String>,
    number: u64,
}

impl std::fmt::Debug for AvroSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AvroSource").field("columns", &self.columns).field("number", &self.number).finish()
    }
}

impl AvroSource {
    /// # Errors
    /// It is not an Avro file, its codec is not built in, or it does not hold records.
    pub(super) fn open(input: Metered) -> Result<Self, String> {
        let reader =
            Reader::new(BufReader::new(input)).map_err(|error| format!("is not a readable Avro file: {error}"))?;
        let columns = match reader.writer_schema() {
            Schema::Record(record) => record.fields.iter().map(|field| field.name.clone()).collect(),
            _ => return Err("does not hold Avro records".to_owned()),
        };
        Ok(Self { reader, columns, number: 0 })
    }

    pub(super) fn columns(&self) -> &[String] {
        &self.columns
    }

    pub(super) fn next(&mut self, mapper: &Mapper, ignored: &mut Ignored) -> Option<Result<ReplayRecord, ReadFault>> {
        let number = self.number + 1;
        let value = match self.reader.next()? {
            Ok(value) => value,
            Err(error) => {
                return Some(Err(ReadFault::Broken { number, reason: error.to_string() }));
            }
        };
        self.number = number;
        let record = match to_json(value) {
            Ok(Value::Object(object)) => {
                let record = mapper.record(number, |column| find(&object, column).map(Cell::Json));
                if record.is_ok() {
                    mapper.note_unused(&object, ignored);
                }
                record
            }
            Ok(_) => Err("is not a record".to_owned()),
            Err(reason) => Err(reason),
        };
        Some(record.map_err(|reason| ReadFault::BadRecord { number, reason }))
    }
}

/// Times become RFC 3339 texts, whose unit is beyond doubt; decimals stay as the library writes them.
fn to_json(value: AvroValue) -> Result<Value, String> {
    match value {
        AvroValue::Float(number) => finite(f64::from(number)),
        AvroValue::Double(number) => finite(number),
        AvroValue::Union(_, inner) => to_json(*inner),
        AvroValue::TimestampMicros(us) | AvroValue::LocalTimestampMicros(us) => rfc3339(us.div_euclid(1000)),
        AvroValue::TimestampNanos(ns) | AvroValue::LocalTimestampNanos(ns) => rfc3339(ns.div_euclid(1_000_000)),
        AvroValue::TimestampMillis(ms) | AvroValue::LocalTimestampMillis(ms) => rfc3339(ms),
        AvroValue::Record(fields) => fields_to_json(fields.into_iter()),
        AvroValue::Map(fields) => fields_to_json(fields.into_iter()),
        AvroValue::Array(values) => values.into_iter().map(to_json).collect::<Result<_, _>>().map(Value::Array),
        other => Value::try_from(other).map_err(|error| error.to_string()),
    }
}

fn fields_to_json(fields: impl Iterator<Item = (String, AvroValue)>) -> Result<Value, String> {
    let fields = fields.map(|(name, value)| Ok((name, to_json(value)?)));
    fields.collect::<Result<Map<_, _>, String>>().map(Value::Object)
}

fn finite(number: f64) -> Result<Value, String> {
    Number::from_f64(number).map(Value::Number).ok_or_else(|| format!("{number} is not a finite number"))
}

fn rfc3339(ms: i64) -> Result<Value, String> {
    let time = Timestamp::from_millisecond(ms).map_err(|_| format!("{ms} ms lies outside the calendar"))?;
    Ok(Value::from(time.to_string()))
}
