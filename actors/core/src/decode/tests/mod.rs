//! Behaviour of the decoder as a whole; the parts test themselves.

mod avro;
mod corpus;
mod decimals;
mod evolution;
mod json;
mod round_trip;

use std::sync::Arc;

use super::*;
use crate::{
    encode::{encode_avro, push_frame, scalars_at},
    schema::Scalar,
};

pub(super) const SENSORS: &str = include_str!("../../../../../schemas/sensor_reading.avsc");

pub(super) fn schema_of(fields: &str) -> Arc<StreamSchema> {
    let text = format!(r#"{{"type":"record","name":"R","namespace":"t","fields":[{fields}]}}"#);
    Arc::new(StreamSchema::parse(&text).unwrap())
}

pub(super) fn decoder_of(fields: &str) -> Decoder {
    Decoder::new(schema_of(fields), DecodeLimits::default())
}

pub(super) fn sensors() -> Decoder {
    Decoder::new(Arc::new(StreamSchema::parse(SENSORS).unwrap()), DecodeLimits::default())
}

pub(super) fn raw<V: AsRef<[u8]>>(values: &[V]) -> RawBatch {
    let mut batch = RawBatch::with_capacity(Arc::from("topic"), 0, 0);
    for (offset, value) in (100..).zip(values) {
        batch.push(offset, 0, None, Some(value.as_ref()));
    }
    batch
}

pub(super) fn all<V: AsRef<[u8]>>(decoder: &mut Decoder, values: &[V]) -> Decoded {
    decoder.decode(&raw(values), 0..values.len())
}

/// The row that one value becomes, or why it is refused.
pub(super) fn one<V: AsRef<[u8]>>(decoder: &mut Decoder, value: V) -> Result<Vec<Scalar>, (ErrorClass, String)> {
    let decoded = all(decoder, &[value]);
    match decoded.rejected.into_iter().next() {
        Some(rejected) => {
            assert_eq!((decoded.batch.num_rows(), decoded.rows.len()), (0, 0));
            Err((rejected.class, rejected.reason))
        }
        None => Ok(scalars_at(&decoded.batch, 0)),
    }
}

pub(super) fn contract<T>(reason: &str) -> Result<T, (ErrorClass, String)> {
    Err((ErrorClass::Contract, reason.to_owned()))
}

pub(super) fn undecodable<T>(reason: &str) -> Result<T, (ErrorClass, String)> {
    Err((ErrorClass::Decode, reason.to_owned()))
}

pub(super) const GOOD: &str = r#"{"sensor_id":"sensor_001","sensor_type":"temperature","value":20.37,"timestamp":"2026-01-02T12:04:05.678Z","location":"zone_1","anomaly":true,"metadata":{"battery_level":87,"signal_strength":-41}}"#;

pub(super) fn good_row() -> Vec<Scalar> {
    vec![
        Scalar::Text("sensor_001".to_owned()),
        Scalar::Text("temperature".to_owned()),
        Scalar::Number(20.37),
        Scalar::Integer(1_767_355_445_678),
        Scalar::Text("zone_1".to_owned()),
        Scalar::Boolean(true),
        Scalar::Integer(87),
        Scalar::Integer(-41),
    ]
}

fn framed(schema: &StreamSchema, id: u32, row: &[Scalar]) -> Vec<u8> {
    let mut value = Vec::new();
    push_frame(id, &mut value);
    encode_avro(schema, row, &mut value).unwrap();
    value
}

#[test]
fn json_and_avro_are_told_apart_record_by_record() {
    let mut decoder = sensors();
    decoder.add_writer_schema(7, SENSORS).unwrap();
    let avro = framed(decoder.schema(), 7, &good_row());
    let decoded = all(&mut decoder, &[GOOD.as_bytes(), &avro, b"no", GOOD.as_bytes()]);
    assert_eq!(decoded.rows, [0, 1, 3]);
    for row in 0..3 {
        assert_eq!(scalars_at(&decoded.batch, row), good_row());
    }
    assert_eq!((decoded.rejected[0].index, decoded.rejected[0].class), (2, ErrorClass::Decode));
}

#[test]
fn a_fixed_format_reads_no_other() {
    let mut decoder = sensors().with_format(Format::Avro);
    let reason = "the value does not begin with the byte 0 of a schema id";
    assert_eq!(one(&mut decoder, GOOD), undecodable(reason));
    let mut decoder = sensors().with_format(Format::Json);
    decoder.add_writer_schema(7, SENSORS).unwrap();
    let avro = framed(decoder.schema(), 7, &good_row());
    assert_eq!(one(&mut decoder, &avro).unwrap_err().0, ErrorClass::Decode);
    assert!(decoder.unresolved_ids(&raw(&[avro])).is_empty());
}

#[test]
fn a_range_is_decoded_alone_and_cut_to_the_batch() {
    let mut decoder = sensors();
    let batch = raw(&["1", GOOD, GOOD, "2"]);
    let decoded = decoder.decode(&batch, 1..3);
    assert_eq!((decoded.rows.as_slice(), decoded.rejected.len()), (&[1, 2][..], 0));
    let decoded = decoder.decode(&batch, 2..99);
    assert_eq!((decoded.rows.as_slice(), decoded.rejected[0].index), (&[2][..], 3));
    assert_eq!(decoder.decode(&batch, 9..99).batch.num_rows(), 0);
}

#[test]
fn a_null_value_and_an_oversized_one_are_refused() {
    let limits = DecodeLimits { max_record_bytes: GOOD.len() };
    let mut decoder = Decoder::new(Arc::clone(sensors().schema()), limits);
    let mut batch = RawBatch::with_capacity(Arc::from("topic"), 0, 0);
    batch.push(0, 0, Some(b"key"), None);
    batch.push(1, 0, None, Some(GOOD.as_bytes()));
    batch.push(2, 0, None, Some(format!("{GOOD} ").as_bytes()));
    let decoded = decoder.decode(&batch, 0..3);
    assert_eq!(decoded.rows, [1]);
    assert_eq!(decoded.rejected[0].reason, "null value");
    let bytes = GOOD.len();
    assert_eq!(decoded.rejected[1].reason, format!("the value has {} bytes, the limit is {bytes}", bytes + 1));
    assert!(decoded.rejected.iter().all(|rejected| rejected.class == ErrorClass::Contract));
}

#[test]
fn a_schema_id_is_unresolved_until_its_schema_or_its_absence_is_known() {
    let mut decoder = sensors();
    let frame = |id: u32| framed(sensors().schema(), id, &good_row());
    let batch = raw(&[frame(9), frame(8), GOOD.into(), frame(9), vec![0, 0, 0], frame(8), frame(42)]);
    assert_eq!(decoder.unresolved_ids(&batch), [9, 8, 42]);
    decoder.add_writer_schema(9, SENSORS).unwrap();
    assert!(decoder.add_writer_schema(8, "\"string\"").is_err());
    decoder.add_missing(42);
    assert!(decoder.unresolved_ids(&batch).is_empty());
    let decoded = decoder.decode(&batch, 0..batch.len());
    assert_eq!(decoded.rows, [0, 2, 3]);
    let reasons: Vec<&str> = decoded.rejected.iter().map(|rejected| rejected.reason.as_str()).collect();
    let unreadable = "schema id 8 cannot be read: a value must be a record, this schema is string";
    assert_eq!(reasons, [unreadable, "the value ends inside the schema id", unreadable, "unknown schema id 42"]);
    decoder.forget_missing();
    assert_eq!(decoder.unresolved_ids(&batch), [42]);
}

#[test]
fn a_batch_may_use_more_schemas_than_are_kept() {
    let mut decoder = decoder_of(r#"{"name":"n","type":"int"}"#);
    let text = r#"{"type":"record","name":"R","fields":[{"name":"n","type":"int"}]}"#;
    let schema = Arc::clone(decoder.schema());
    let most = u32::try_from(MAX_WRITER_SCHEMAS).unwrap();
    // The last batch needs the oldest one of the first.
    for ids in [0..most + 76, most..2 * most + 500, 0..most + 1] {
        let batch = raw(&ids.clone().map(|id| framed(&schema, id, &[Scalar::Integer(1)])).collect::<Vec<_>>());
        for id in decoder.unresolved_ids(&batch) {
            decoder.add_writer_schema(id, text).unwrap();
        }
        let decoded = decoder.decode(&batch, 0..batch.len());
        assert_eq!((decoded.rows.len(), decoded.rejected.len()), (ids.len(), 0));
    }
}

#[test]
fn a_dead_letter_has_the_bytes_as_they_were() {
    let mut batch = RawBatch::with_capacity(Arc::from("topic"), 0, 0);
    batch.push(17, 1234, Some(&[0xFF, 0]), Some(&[0xFE, 1]));
    batch.push_header(b"h", Some(&[2]));
    batch.push_header(b"none", None);
    let rejected = sensors().decode(&batch, 0..1).rejected.remove(0);
    let letter = dead_letter(&batch.get(0), &rejected, STAGE);
    assert_eq!((letter.offset, letter.log_timestamp_ms, letter.class), (17, 1234, ErrorClass::Decode));
    assert_eq!((letter.stage.as_str(), letter.reason.as_str()), ("decode", "not UTF-8 from byte 0 on"));
    assert_eq!((letter.key, letter.value), (Some(vec![0xFF, 0]), Some(vec![0xFE, 1])));
    assert_eq!(letter.headers, [(b"h".to_vec(), Some(vec![2])), (b"none".to_vec(), None)]);
}

#[test]
fn a_reason_is_never_longer_than_its_limit() {
    let name = "ä".len() + MAX_REASON_BYTES;
    let field = format!("{{\"name\":\"{}\",\"type\":\"int\"}}", "f".repeat(name));
    let (_, reason) = one(&mut decoder_of(&field), "{}").unwrap_err();
    assert_eq!(reason.len(), MAX_REASON_BYTES);
}
