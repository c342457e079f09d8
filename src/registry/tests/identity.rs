//! Which schemas are the same one, and what they are kept as.

use std::sync::Arc;

use serde_json::json;
use streamward_core::ports::ValueDecoder;
use streamward_pipeline::ports::SchemaSource;

use super::{A, B_DEFAULT, B_REQUIRED, Topic, avro, schema};
use crate::registry::{
    Definition, Force, Level, Mode, Permanent, Reference, SchemaType, SettingsUpdate, Submission, Visible,
    schemas::{EmbeddedSchemas, SchemaDecoder, Schemas},
};

#[test]
fn the_same_schema_has_one_id_whatever_its_spacing_and_subject() {
    let registry = Topic::default().open();
    let version = registry.register("s-value", &avro(A)).unwrap();
    assert_eq!((version.id, version.version), (1, 1));
    let spaced = r#" { "name": "R", "fields": [ {"type": {"type":"string"}, "name": "a"} ], "type": "record" } "#;
    for subject in ["s-value", "other"] {
        assert_eq!(registry.register(subject, &Submission::avro(spaced)).unwrap().id, 1);
    }
    assert_eq!(registry.versions("s-value", Visible::Live).unwrap(), [1]);
    assert_eq!(&*registry.definition(1).unwrap().text, schema(A));
    assert_eq!(registry.definition(2), None);
    assert_eq!(registry.uses(1, Visible::Live).unwrap().len(), 2);
}

#[test]
fn schemas_that_differ_in_documentation_default_or_logical_type_are_different() {
    let registry = Topic::default().open();
    let none = SettingsUpdate { level: Some(Level::None), normalize: None };
    registry.set_settings(None, none).unwrap();
    let fields = [
        r#"{"name":"a","type":{"type":"long","logicalType":"timestamp-millis"}}"#,
        r#"{"name":"a","type":"long"}"#,
        r#"{"name":"a","type":"long","default":3}"#,
        r#"{"name":"a","type":"long","doc":"A"}"#,
    ];
    let ids = fields.map(|field| registry.register("s", &avro(field)).unwrap().id);
    assert_eq!(ids, [1, 2, 3, 4]);
    assert_eq!(registry.versions("s", Visible::Live).unwrap(), [1, 2, 3, 4]);
}

#[test]
fn normalization_makes_one_schema_of_two_orders_of_aliases() {
    let registry = Topic::default().open();
    let aliased = |aliases: &str| {
        let submission = avro(&format!(r#"{{"name":"a","type":"int","aliases":[{aliases}]}}"#));
        Submission { normalize: true, ..submission }
    };
    assert_eq!(registry.register("s", &aliased(r#""y","x""#)).unwrap().id, 1);
    assert_eq!(registry.register("s", &aliased(r#""x","y""#)).unwrap().id, 1);
    let as_sent = Submission { normalize: false, ..aliased(r#""y","x""#) };
    assert_eq!(registry.register("s", &as_sent).unwrap().id, 2);
    let on = SettingsUpdate { normalize: Some(true), level: None };
    registry.set_settings(Some("t"), on).unwrap();
    assert_eq!(registry.register("t", &as_sent).unwrap().id, 1);
}

fn with_reference(name: &str, subject: &str, version: i64, text: &str) -> Submission {
    let reference = Reference { name: name.to_owned(), subject: subject.to_owned(), version };
    let definition = Definition { references: vec![reference], ..Definition::new(SchemaType::Avro, text) };
    Submission { definition, ..Submission::avro(text) }
}

const ADDRESS: &str =
    r#"{"type":"record","name":"Address","namespace":"x","fields":[{"name":"city","type":"string"}]}"#;
const PERSON: &str = r#"{"type":"record","name":"Person","namespace":"x","fields":[{"name":"home","type":"Address"},{"name":"work","type":"x.Address"}]}"#;

#[test]
fn a_schema_may_refer_to_the_types_of_another_subject() {
    let registry = Topic::default().open();
    registry.register("address", &Submission::avro(ADDRESS)).unwrap();
    let latest = with_reference("x.Address", "address", -1, PERSON);
    let person = registry.register("person", &latest).unwrap();
    assert_eq!(person.definition.references[0].version, 1, "the latest is held fast");
    assert_eq!(registry.register("person", &with_reference("x.Address", "address", 1, PERSON)).unwrap(), person);
    let whole = registry.whole_text(person.id).unwrap();
    apache_avro::Schema::parse_str(&whole).expect("it stands alone");
    assert_eq!(whole.matches(r#""name":"Address""#).count(), 1);
    assert_eq!(registry.referenced_by("address", "latest".parse().unwrap(), Visible::Live).unwrap(), [person.id]);
    assert!(registry.register("person", &Submission::avro(PERSON)).is_err(), "without the reference");
}

#[test]
fn json_and_protobuf_are_kept_as_they_come() {
    let registry = Topic::default().open();
    let text = "syntax = \"proto3\";  message A { int32 a = 1; }\n";
    let proto = Submission { definition: Definition::new(SchemaType::Protobuf, text), ..avro("") };
    let version = registry.register("p", &proto).unwrap();
    assert_eq!(&*registry.definition(version.id).unwrap().text, text);
    let json = Submission { definition: Definition::new(SchemaType::Json, r#"{ "type": "object" }"#), ..avro("") };
    assert_eq!(&*registry.register("j", &json).unwrap().definition.text, r#"{ "type": "object" }"#);
    assert!(
        registry.register("j", &Submission { definition: Definition::new(SchemaType::Json, "{"), ..json }).is_err()
    );
}

#[actix_web::test]
async fn values_are_decoded_by_their_id_or_as_json() {
    let registry = Topic::default().open();
    registry.register("s", &avro(A)).unwrap();
    let decoder = SchemaDecoder::new(Arc::new(EmbeddedSchemas(registry)));
    let framed = [0, 0, 0, 0, 1, 4, b'h', b'i'];
    assert_eq!(decoder.decode(&framed).await, Some(json!({"a": "hi"})));
    assert_eq!(decoder.decode(br#"{"x":1}"#).await, Some(json!({"x": 1})));
    for unreadable in [&framed[..7], &[0, 0, 0, 0, 1, 2, 104, 7], &framed[..3], &[0, 0, 0, 0, 9, 4, 1, 1], b"", b"{"] {
        assert_eq!(decoder.decode(unreadable).await, None, "{unreadable:?}");
    }
}

#[actix_web::test]
async fn an_unknown_id_is_looked_for_behind_the_last_record_read() {
    let topic = Topic::default();
    let here = EmbeddedSchemas(topic.open());
    assert_eq!(here.schemas(&[1]).await, Ok(vec![None]));
    topic.open().register("s", &avro(B_DEFAULT)).unwrap();
    assert_eq!(here.schemas(&[1, 2]).await, Ok(vec![Some(schema(B_DEFAULT).into()), None]));
}

#[actix_web::test]
async fn who_asks_for_unknown_ids_at_once_shares_a_read_and_people_do_without() {
    let topic = Topic::default();
    let here = EmbeddedSchemas(topic.open());
    let before = topic.reads();
    assert_eq!(here.schemas(&[0]).await, Ok(vec![None]));
    assert_eq!(here.schemas_to_show(&[7]).await, Ok(vec![None]), "read a moment ago");
    assert_eq!(topic.reads(), before);
    let asked = std::time::Instant::now();
    here.0.catch_up_since(asked).unwrap();
    here.0.catch_up_since(asked).unwrap();
    assert_eq!(topic.reads(), before + 1, "the second was asked before that read");
    here.schemas(&[7]).await.unwrap();
    assert_eq!(topic.reads(), before + 2, "a record may have come since");
}

#[test]
fn a_read_only_registry_knows_the_schemas_of_deleted_versions_and_of_other_subjects() {
    let topic = Topic::default();
    let registry = topic.open();
    let id = registry.register("s", &avro(A)).unwrap().id;
    registry.delete_subject("s", Permanent(false)).unwrap();
    registry.set_mode(None, Mode::ReadOnly, Force::No).unwrap();
    let written = topic.records().len();
    for subject in ["s", "other"] {
        assert_eq!(registry.known(subject, &avro(A)).unwrap(), Some(id));
        assert_eq!(registry.check_writable(subject, &avro(A)).unwrap_err().code(), 42205);
    }
    assert_eq!(registry.known("s", &avro(B_REQUIRED)).unwrap(), None);
    assert_eq!(topic.records().len(), written);
    registry.set_mode(None, Mode::ReadWrite, Force::No).unwrap();
    registry.register("other", &avro(B_REQUIRED)).unwrap();
    registry.set_mode(None, Mode::ReadOnly, Force::No).unwrap();
    registry.check_writable("other", &avro(B_REQUIRED)).unwrap();
    assert_eq!(registry.known("other", &avro(A)).unwrap_err().code(), 409);
}
