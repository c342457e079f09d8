//! Decimals from JSON and from Avro: exact, or refused with a reason.

use super::*;
use crate::{
    encode::{EncodeError, JsonShape, encode_json},
    schema::Decimal,
};

const MOST: i128 = 99_999_999_999_999_999_999_999_999_999_999_999_999;

fn decimal(precision: u8, scale: u8) -> String {
    format!(r#"{{"type":"bytes","logicalType":"decimal","precision":{precision},"scale":{scale}}}"#)
}

fn in_fixed(name: &str, size: usize) -> String {
    format!(r#"{{"type":"fixed","name":"{name}","size":{size},"logicalType":"decimal","precision":4,"scale":2}}"#)
}

fn field(kind: &str) -> String {
    format!(r#"{{"name":"f","type":{kind}}}"#)
}

fn from_json(kind: &str, json: &str) -> Result<Scalar, (ErrorClass, String)> {
    one(&mut decoder_of(&field(kind)), format!("{{\"f\":{json}}}")).map(|mut row| row.remove(0))
}

/// The bytes of a writer's field as they are read.
fn from_avro(writer: &str, reader: &str, datum: &[u8]) -> Result<Scalar, (ErrorClass, String)> {
    let text = format!(r#"{{"type":"record","name":"R","namespace":"t","fields":[{}]}}"#, field(writer));
    let mut decoder = decoder_of(&field(reader));
    decoder.add_writer_schema(1, &text).unwrap();
    one(&mut decoder, [&[0, 0, 0, 0, 1][..], datum].concat()).map(|mut row| row.remove(0))
}

fn value(unscaled: i128, scale: u8) -> Result<Scalar, (ErrorClass, String)> {
    Ok(Scalar::Decimal(Decimal { unscaled, scale }))
}

#[test]
fn a_decimal_is_read_from_the_digits_of_a_number_or_a_text() {
    for (json, unscaled) in [
        ("12.5", 1250),
        ("\"12.5\"", 1250),
        ("\"\\u0031.5\"", 150),
        ("-0.01", -1),
        ("1e2", 10_000),
        ("999999999999999999999999999999999999.99", MOST),
        ("-999999999999999999999999999999999999.99", -MOST),
    ] {
        assert_eq!(from_json(&decimal(38, 2), json), value(unscaled, 2), "{json}");
    }
    assert_eq!(from_json(&decimal(38, 38), "0.00000000000000000000000000000000000001"), value(1, 38));
    assert_eq!(from_json(&format!("[\"null\",{}]", decimal(4, 2)), "null"), Ok(Scalar::Null));
}

#[test]
fn what_a_decimal_cannot_hold_is_refused_and_never_rounded() {
    for (json, reason) in [
        ("100", "f: a number that its type cannot hold"),
        ("1e400", "f: a number that its type cannot hold"),
        ("0.005", "f: more decimals than its type has, and nothing is rounded"),
        ("\"ten\"", "f: a text that is no number"),
        ("true", "f: found a boolean, expected a decimal"),
        ("null", "f: found null, expected a decimal"),
        ("[1]", "f: found an array, expected a decimal"),
        ("{\"a\":1}", "f: found an object, expected a decimal"),
    ] {
        assert_eq!(from_json(&decimal(4, 2), json), contract(reason), "{json}");
    }
    assert_eq!(from_json(&decimal(4, 2), "1.").unwrap_err().0, ErrorClass::Decode);
}

#[test]
fn a_decimal_of_avro_is_read_from_bytes_and_from_a_fixed_of_the_same_digits_alone() {
    let of = decimal(4, 2);
    assert_eq!(from_avro(&of, &of, &[4, 0x04, 0xE2]), value(1250, 2));
    assert_eq!(from_avro("\"bytes\"", &of, &[2, 0xFF]), value(-1, 2));
    assert_eq!(from_avro(&of, &of, &[6, 0, 0x27, 0x10]), contract("f: a number that its type cannot hold"));
    assert_eq!(from_avro(&of, &of, &[6, 0, 0x27]), undecodable("f: the bytes end early"));
    let other = contract("f: the writer's decimal(5, 2) cannot become a decimal");
    assert_eq!(from_avro(&decimal(5, 2), &of, &[2, 1]), other);
    assert_eq!(from_avro(&in_fixed("F", 3), &in_fixed("F", 3), &[0xFF, 0xFF, 0xFE]), value(-2, 2));
    let renamed = contract("f: the writer's fixed t.G is not the fixed t.F, which has no alias \"t.G\"");
    assert_eq!(from_avro(&in_fixed("G", 3), &in_fixed("F", 3), &[0, 0, 1]), renamed);
    let shorter = contract("f: the writer's decimal(4, 2) cannot become a decimal");
    assert_eq!(from_avro(&in_fixed("F", 2), &in_fixed("F", 3), &[0, 1]), shorter);
}

#[test]
fn a_decimal_of_any_size_is_written_as_it_was_read() {
    for (kind, unscaled, scale) in
        [(decimal(38, 38), -MOST, 38), (decimal(38, 0), MOST, 0), (decimal(1, 1), 0, 1), (in_fixed("F", 9), -9999, 2)]
    {
        let schema = schema_of(&field(&kind));
        let mut decoder = Decoder::new(Arc::clone(&schema), DecodeLimits::default());
        decoder.add_writer_schema(1, &schema.avro).unwrap();
        let row = [Scalar::Decimal(Decimal { unscaled, scale })];
        let read = all(&mut decoder, &[framed(&schema, 1, &row)]);
        assert_eq!(scalars_at(&read.batch, 0), row, "{kind}");
        let mut json = Vec::new();
        encode_json(&read.batch, 0, &schema, JsonShape::Nested, &mut json);
        let text = String::from_utf8(json.clone()).unwrap();
        assert_eq!(text, format!("{{\"f\":\"{}\"}}", Decimal { unscaled, scale }));
        assert_eq!(one(&mut decoder, json), Ok(row.to_vec()));
    }
    let mut out = vec![9];
    let schema = schema_of(&field(&in_fixed("F", 1)));
    let error = encode_avro(&schema, &[Scalar::Decimal(Decimal { unscaled: 200, scale: 2 })], &mut out).unwrap_err();
    assert_eq!((error, out), (EncodeError::Type { path: "f".to_owned(), expected: "a decimal" }, vec![9]));
}

#[test]
fn a_default_of_a_decimal_is_bytes_as_avro_writes_them() {
    let with_default = format!(r#"{{"name":"f","type":{},"default":"\u00FF\u0038"}}"#, decimal(4, 2));
    assert_eq!(one(&mut decoder_of(&with_default), "{}"), Ok(vec![value(-200, 2).unwrap()]));
}
