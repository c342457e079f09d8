//! Writes values of people as a subject's schema says: JSON in, Avro in Confluent framing out.

use std::{sync::Arc, time::Duration};

use apache_avro::{types::Value as AvroValue, writer::datum::GenericDatumWriter};
use serde_json::Value;
use streamward_core::{
    encode::push_frame,
    ports::{Answer, EncodeError, ValueEncoder},
};

use super::{avro, schemas::Schemas};

/// How long people wait for a subject's schema.
const WITHIN: Duration = Duration::from_secs(5);

/// Encodes by the schemas of a registry.
pub struct SchemaEncoder(pub Arc<dyn Schemas>);

impl ValueEncoder for SchemaEncoder {
    fn encode<'a>(&'a self, subject: &'a str, json: &'a [u8]) -> Answer<'a, Vec<u8>, EncodeError> {
        Box::pin(async move {
            let (id, schema) = tokio::time::timeout(WITHIN, self.latest(subject))
                .await
                .map_err(|_| EncodeError::Unavailable(format!("no answer within {} s", WITHIN.as_secs())))??;
            encode(id, &schema, json).map_err(EncodeError::Invalid)
        })
    }
}

impl SchemaEncoder {
    async fn latest(&self, subject: &str) -> Result<(u32, Arc<str>), EncodeError> {
        let unknown = || EncodeError::UnknownSubject(subject.to_owned());
        let id = self.0.latest(subject).await.map_err(EncodeError::Unavailable)?.ok_or_else(unknown)?;
        let schema = self.0.schemas(&[id]).await.map_err(EncodeError::Unavailable)?.pop().flatten();
        Ok((id, schema.ok_or_else(unknown)?))
    }
}

fn encode(id: u32, schema: &str, json: &[u8]) -> Result<Vec<u8>, String> {
    let parsed = avro::read(schema, &[], avro::Form::Resolved)
        .map_err(|error| format!("the subject's schema is not Avro, which is the only kind encoded: {error}"))?
        .parsed;
    let json: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
    let fits = |error: apache_avro::Error| format!("the value does not fit schema {id}: {error}");
    let value = AvroValue::try_from(json.clone()).and_then(|value| value.resolve(&parsed)).map_err(fits)?;
    if let Some(name) = stranger(&json, &value) {
        return Err(format!("the value does not fit schema {id}: it has no field {name}"));
    }
    let writer = GenericDatumWriter::builder(&parsed).build().map_err(fits)?;
    let mut bytes = Vec::new();
    push_frame(id, &mut bytes);
    bytes.extend(writer.write_value_to_vec(value).map_err(fits)?);
    Ok(bytes)
}

/// The path of the first field that the schema does not have: left out silently, a slip of the pen would be lost. In
/// `taken` is what the schema took of the JSON, with the branches of unions that it took.
fn stranger(json: &Value, taken: &AvroValue) -> Option<String> {
    let below = |name: &str, (json, taken): (&Value, &AvroValue)| Some(format!("{name}.{}", stranger(json, taken)?));
    match (json, taken) {
        (_, AvroValue::Union(_, branch)) => stranger(json, branch),
        (Value::Object(fields), AvroValue::Record(known)) => {
            fields.iter().find_map(|(name, field)| match known.iter().find(|(known, _)| known == name) {
                Some((_, taken)) => below(name, (field, taken)),
                None => Some(name.clone()),
            })
        }
        (Value::Object(fields), AvroValue::Map(known)) => {
            fields.iter().find_map(|(name, field)| below(name, (field, known.get(name)?)))
        }
        (Value::Array(items), AvroValue::Array(known)) => {
            let mut pairs = items.iter().zip(known).enumerate();
            pairs.find_map(|(index, pair)| below(&index.to_string(), pair))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = r#"{"type": "record", "name": "Order", "fields": [
        {"name": "id", "type": "string"},
        {"name": "amount", "type": "double"},
        {"name": "count", "type": "int", "default": 1},
        {"name": "note", "type": ["null", "string"], "default": null},
        {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#;

    #[test]
    fn a_value_that_fits_is_framed_and_read_back_with_its_defaults() {
        let bytes = encode(7, ORDER, br#"{"id": "o1", "amount": 3, "at": 1735689600000, "note": "x"}"#).unwrap();
        assert_eq!(bytes[..5], [0, 0, 0, 0, 7]);
        let read = crate::registry::decode::decode_text(ORDER, &bytes[5..]).unwrap();
        assert_eq!((&read["id"], &read["amount"], &read["count"]), (&"o1".into(), &3.0.into(), &1.into()));
        assert_eq!((&read["note"], &read["at"]), (&"x".into(), &1_735_689_600_000_i64.into()));
    }

    #[test]
    fn a_field_that_the_schema_does_not_have_is_found_at_any_depth() {
        let part = r#"{"type": "record", "name": "Part", "fields": [{"name": "a", "type": "int"}]}"#;
        let whole = format!(
            r#"{{"type": "record", "name": "Whole", "fields": [
                {{"name": "one", "type": ["null", {part}], "default": null}},
                {{"name": "many", "type": {{"type": "array", "items": "Part"}}, "default": []}},
                {{"name": "named", "type": {{"type": "map", "values": "Part"}}, "default": {{}}}}]}}"#
        );
        let cases = [
            (r#"{"one": {"a": 1}, "many": [{"a": 1}], "named": {"x": {"a": 1}}}"#, None),
            (r#"{"one": {"a": 1, "b": 2}}"#, Some("one.b")),
            (r#"{"many": [{"a": 1}, {"a": 1, "b": 2}]}"#, Some("many.1.b")),
            (r#"{"named": {"x": {"a": 1, "b": 2}}}"#, Some("named.x.b")),
        ];
        for (json, wanted) in cases {
            let refused = encode(7, &whole, json.as_bytes()).err();
            assert_eq!(refused.is_some(), wanted.is_some(), "{json}: {refused:?}");
            let field = wanted.map(|wanted| format!("it has no field {wanted}"));
            assert!(field.is_none_or(|field| refused.is_some_and(|refused| refused.ends_with(&field))), "{json}");
        }
    }

    #[test]
    fn a_value_that_does_not_fit_is_refused() {
        for wrong in [
            r#"{"id": 5, "amount": 3, "at": 1}"#,
            r#"{"id": "a"}"#,
            r#"{"id": "a", "amount": 1, "at": 1, "x": 1}"#,
            "7",
            "{",
        ] {
            assert!(encode(7, ORDER, wrong.as_bytes()).is_err(), "{wrong}");
        }
        assert!(encode(7, "syntax = \"proto3\";", b"{}").unwrap_err().contains("not Avro"));
    }
}
