use proptest::prelude::*;

use super::*;
use crate::encode::{EncodeError, JsonShape, encode_json, encode_json_scalars};
use crate::schema::{Kind, instant};

const FIELDS: &str = r#"{"name":"flag","type":"boolean"},{"name":"small","type":"int"},{"name":"big","type":["long","null"]},
    {"name":"inner","type":{"type":"record","name":"I","fields":[
        {"name":"f","type":"float"},{"name":"d","type":["null","double"]},{"name":"text","type":["null","string"]},
        {"name":"deep","type":{"type":"record","name":"D","fields":[
            {"name":"kind","type":{"type":"enum","name":"E","symbols":["x","y","z"]}}]}}]}},
    {"name":"at","type":{"type":"long","logicalType":"timestamp-millis"}}"#;

fn finite_f32() -> impl Strategy<Value = f64> {
    any::<f32>().prop_filter("finite", |n| n.is_finite()).prop_map(f64::from)
}

fn rows() -> impl Strategy<Value = Vec<Scalar>> {
    let null_or = |scalars: BoxedStrategy<Scalar>| prop_oneof![1 => Just(Scalar::Null), 4 => scalars];
    let finite = any::<f64>().prop_filter("finite", |n| n.is_finite());
    (
        any::<bool>().prop_map(Scalar::Boolean),
        any::<i32>().prop_map(|n| Scalar::Integer(i64::from(n))),
        null_or(any::<i64>().prop_map(Scalar::Integer).boxed()),
        finite_f32().prop_map(Scalar::Number),
        null_or(finite.prop_map(Scalar::Number).boxed()),
        null_or(any::<String>().prop_map(Scalar::Text).boxed()),
        prop_oneof!["x", "y", "z"].prop_map(Scalar::Text),
        (instant::MIN_MS..=instant::MAX_MS).prop_map(Scalar::Integer),
    )
        .prop_map(|(a, b, c, d, e, f, g, h)| vec![a, b, c, d, e, f, g, h])
}

proptest! {
    #[test]
    fn what_is_written_as_json_or_avro_reads_back(rows in proptest::collection::vec(rows(), 1..8)) {
        let mut decoder = decoder_of(FIELDS);
        let schema = Arc::clone(decoder.schema());
        decoder.add_writer_schema(1, &schema.avro).unwrap();
        let mut values = Vec::new();
        for row in &rows {
            let mut json = Vec::new();
            encode_json_scalars(row, &schema, JsonShape::Nested, &mut json);
            values.push(json);
            values.push(framed(&schema, 1, row));
        }
        let decoded = all(&mut decoder, &values);
        prop_assert_eq!(&decoded.rejected, &vec![]);
        for (index, row) in rows.iter().enumerate() {
            prop_assert_eq!(&scalars_at(&decoded.batch, 2 * index), row);
            prop_assert_eq!(&scalars_at(&decoded.batch, 2 * index + 1), row);
            let (mut flat, mut from_scalars) = (Vec::new(), Vec::new());
            encode_json(&decoded.batch, 2 * index, &schema, JsonShape::Flat, &mut flat);
            encode_json_scalars(row, &schema, JsonShape::Flat, &mut from_scalars);
            prop_assert_eq!(&flat, &from_scalars);
            let tree: serde_json::Value = serde_json::from_slice(&flat).unwrap();
            prop_assert_eq!(tree.as_object().unwrap().len(), schema.fields.len());
        }
    }
}

#[test]
fn a_row_is_written_nested_or_flat() {
    let decoder = sensors();
    let written = |shape| {
        let mut out = Vec::new();
        encode_json_scalars(&good_row(), decoder.schema(), shape, &mut out);
        String::from_utf8(out).unwrap()
    };
    assert_eq!(written(JsonShape::Nested), GOOD);
    let flat = GOOD.replace(r#""metadata":{"#, "").replace("}}", "}");
    assert_eq!(written(JsonShape::Flat), flat);
}

#[test]
fn a_value_that_does_not_fit_is_named_and_leaves_no_bytes() {
    let schema = schema_of(r#"{"name":"a","type":"string"},{"name":"b","type":"int"}"#);
    let mut out = vec![9];
    let text = Scalar::Text("x".to_owned());
    let error = encode_avro(&schema, &[text.clone(), Scalar::Integer(1 << 40)], &mut out).unwrap_err();
    assert_eq!(error, EncodeError::Type { path: "b".to_owned(), expected: Kind::Int.describe() });
    let error = encode_avro(&schema, &[text], &mut out).unwrap_err();
    assert_eq!(error, EncodeError::Width { found: 1, expected: 2 });
    assert_eq!(out, [9]);
}
