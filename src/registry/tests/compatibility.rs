//! What the levels ask.

use proptest::{prelude::*, sample::subsequence};

use super::{A, B_DEFAULT, B_REQUIRED, Topic, avro, schema};
use crate::registry::{Definition, Level, Registry, RegistryError, SchemaType, SettingsUpdate, Submission};

fn at_level(level: Level) -> Registry {
    let registry = Topic::default().open();
    registry.set_settings(Some("s"), SettingsUpdate { level: Some(level), normalize: None }).unwrap();
    registry
}

/// Why `new` may not follow `old`, if it may not.
pub(super) fn refusal(level: Level, old: &str, new: &str) -> Option<String> {
    let registry = at_level(level);
    registry.register("s", &Submission::avro(old)).unwrap();
    registry.register("s", &Submission::avro(new)).err().map(|error| error.to_string())
}

#[test]
fn each_level_asks_what_it_should() {
    let (a, optional) = (schema(A), schema(&format!("{A},{B_DEFAULT}")));
    let required = schema(&format!("{A},{B_REQUIRED}"));
    let field = |kind: &str| schema(&format!(r#"{{"name":"a","type":{kind}}}"#));
    let symbols =
        |symbols: &str, more: &str| field(&format!(r#"{{"type":"enum","name":"E","symbols":[{symbols}]{more}}}"#));
    let cases = [
        (Level::Backward, &a, &optional, true),
        (Level::Backward, &a, &required, false),
        (Level::Backward, &required, &a, true),
        (Level::Forward, &required, &a, false),
        (Level::Forward, &a, &required, true),
        (Level::Full, &a, &optional, true),
        (Level::Full, &a, &required, false),
        (Level::None, &a, &field("\"int\""), true),
        (Level::Backward, &a, &field(r#"["null","string"]"#), true),
        (Level::Forward, &a, &field(r#"["null","string"]"#), false),
        (Level::Backward, &field("\"int\""), &field("\"long\""), true),
        (Level::Backward, &field("\"long\""), &field("\"int\""), false),
        (Level::Backward, &symbols("\"A\",\"B\"", ""), &symbols("\"A\"", ""), false),
        (Level::Backward, &symbols("\"A\",\"B\"", ""), &symbols("\"A\"", ",\"default\":\"A\""), true),
        (Level::Backward, &symbols("\"A\"", ""), &symbols("\"A\",\"B\"", ""), true),
    ];
    for (level, old, new, fits) in cases {
        let refused = refusal(level, old, new);
        assert_eq!(refused.is_none(), fits, "{level}: {old} then {new}: {refused:?}");
    }
}

#[test]
fn a_refusal_names_the_field_and_the_version() {
    let deep = |kind: &str| {
        schema(&format!(
            r#"{{"name":"in","type":{{"type":"record","name":"I","fields":[{{"name":"x","type":"{kind}"}}]}}}}"#
        ))
    };
    let why = refusal(Level::Backward, &deep("string"), &deep("int")).unwrap();
    assert!(why.contains("version 1") && why.contains("'in'") && why.contains("'x'"), "{why}");
    let why = refusal(Level::Backward, &schema(A), &schema(&format!("{A},{B_REQUIRED}"))).unwrap();
    assert!(why.contains("'b'") && why.contains("BACKWARD"), "{why}");
    let symbols =
        |symbols: &str| schema(&format!(r#"{{"name":"e","type":{{"type":"enum","name":"E","symbols":[{symbols}]}}}}"#));
    let why = refusal(Level::Backward, &symbols("\"A\",\"B\""), &symbols("\"A\"")).unwrap();
    assert!(why.contains("'e'"), "{why}");
}

#[test]
fn a_named_type_may_be_defined_at_another_place() {
    let inner = r#"{"type":"record","name":"I","namespace":"n","fields":[{"name":"x","type":"int"}]}"#;
    let both = schema(&format!(r#"{{"name":"p","type":{inner}}},{{"name":"q","type":"n.I"}}"#));
    let one = schema(&format!(r#"{{"name":"q","type":{inner}}}"#));
    assert_eq!(refusal(Level::Backward, &both, &one), None);
    let other = one.replace("\"int\"", "\"string\"");
    assert!(refusal(Level::Backward, &both, &other).is_some());
    let list = |more: &str| schema(&format!(r#"{{"name":"next","type":["null","R"],"default":null}}{more}"#));
    assert_eq!(refusal(Level::Full, &list(""), &list(&format!(",{B_DEFAULT}"))), None);
}

#[test]
fn schemas_without_a_check_are_refused_unless_the_level_is_none() {
    let text = |schema_type, text: &str| Submission { definition: Definition::new(schema_type, text), ..avro("") };
    let first = text(SchemaType::Protobuf, "message A {}");
    let second = text(SchemaType::Protobuf, "message A { int32 a = 1; }");
    let registry = at_level(Level::Backward);
    registry.register("s", &first).unwrap();
    let refused = registry.register("s", &second).unwrap_err();
    assert_eq!(refused.code(), 42201);
    assert!(refused.to_string().contains("PUT /config/s"), "{refused}");
    assert!(matches!(registry.compare("s", None, &second), Err(RegistryError::NotCheckable { .. })));
    let changed = registry.register("s", &avro(A)).unwrap_err();
    assert!(matches!(changed, RegistryError::Incompatible { .. }), "another type is known to be incompatible");
    registry.set_settings(Some("s"), SettingsUpdate { level: Some(Level::None), normalize: None }).unwrap();
    assert_eq!(registry.register("s", &second).unwrap().version, 2);
    assert_eq!(registry.register("s", &avro(A)).unwrap().version, 3);
}

const FIELDS: [&str; 6] = [
    r#"{"name":"a","type":"int"}"#,
    r#"{"name":"b","type":"long","default":1}"#,
    r#"{"name":"c","type":["null","string"],"default":null}"#,
    r#"{"name":"d","type":"string"}"#,
    r#"{"name":"e","type":{"type":"array","items":"int"},"default":[]}"#,
    r#"{"name":"f","type":{"type":"enum","name":"E","symbols":["X","Y"]}}"#,
];

fn any_schema() -> impl Strategy<Value = String> {
    (subsequence(&FIELDS[..], 0..=FIELDS.len()), any::<bool>()).prop_map(|(fields, wide)| {
        let fields = fields.join(",");
        schema(&if wide { fields.replace("\"int\"", "\"long\"") } else { fields })
    })
}

fn fits(level: Level, history: &[String], new: &str) -> bool {
    let registry = at_level(Level::None);
    for old in history {
        registry.register("s", &Submission::avro(old)).unwrap();
    }
    registry.set_settings(Some("s"), SettingsUpdate { level: Some(level), normalize: None }).unwrap();
    registry.compare("s", None, &Submission::avro(new)).unwrap().is_empty()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn what_fits_a_stricter_level_fits_the_looser_one(
        history in prop::collection::vec(any_schema(), 1..5),
        new in any_schema(),
    ) {
        let stricter = [
            (Level::BackwardTransitive, Level::Backward),
            (Level::ForwardTransitive, Level::Forward),
            (Level::FullTransitive, Level::Full),
            (Level::Full, Level::Backward),
            (Level::Full, Level::Forward),
            (Level::Backward, Level::None),
        ];
        for (strict, loose) in stricter {
            prop_assert!(!fits(strict, &history, &new) || fits(loose, &history, &new), "{strict} but not {loose}");
        }
        let both = fits(Level::Backward, &history, &new) && fits(Level::Forward, &history, &new);
        prop_assert_eq!(both, fits(Level::Full, &history, &new));
        let all = history.iter().all(|old| fits(Level::Backward, std::slice::from_ref(old), &new));
        prop_assert_eq!(all, fits(Level::BackwardTransitive, &history, &new));
    }

    #[test]
    fn every_schema_follows_itself(schema in any_schema()) {
        for level in [Level::Backward, Level::Forward, Level::Full, Level::FullTransitive] {
            prop_assert!(fits(level, std::slice::from_ref(&schema), &schema));
        }
    }
}
