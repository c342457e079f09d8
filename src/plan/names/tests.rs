//! Names of ours as names of the configuration, in every place and spelling.

use std::{fs, path::Path};

use crate::{
    adapters::sqlite::{SqlStore, SqliteSettings, names_of_an_empty_database},
    config::Sources,
    plan::{self, Plan},
};

use super::*;

/// Words that mean something to SQL, to the API or to us in another place.
const OTHERS: [&str; 14] = [
    "rowid",
    "oid",
    "_rowid_",
    "created_at",
    "key",
    "topic",
    "order",
    "table",
    "null",
    "overflow",
    "sw_minutes",
    "sqlite_x",
    "count",
    "dead_letter",
];

/// Where a name is used.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Place {
    Field,
    NestedField,
    GroupedField,
    Selected,
    Window,
    Table,
    Record,
}

const PLACES: [Place; 7] = [
    Place::Field,
    Place::NestedField,
    Place::GroupedField,
    Place::Selected,
    Place::Window,
    Place::Table,
    Place::Record,
];

fn loaded(folder: &Path, name: &str, place: Place) -> Result<Plan, Vec<Fault>> {
    let at = |wanted: Place, other: &str| if place == wanted { name.to_owned() } else { other.to_owned() };
    let field = match place {
        Place::Field | Place::GroupedField => name,
        _ => "extra",
    };
    let nested = at(Place::NestedField, "inner");
    let schema = format!(
        r#"{{"type": "record", "name": "{}", "fields": [
            {{"name": "who", "type": "string"}},
            {{"name": "{field}", "type": ["null", "string"], "default": null}},
            {{"name": "meta", "type": {{"type": "record", "name": "Meta", "fields": [{{"name": "{nested}", "type": "long"}}]}}}},
            {{"name": "at", "type": {{"type": "long", "logicalType": "timestamp-millis"}}}}]}}"#,
        at(Place::Record, "Fact")
    );
    fs::write(folder.join("fact.avsc"), schema).unwrap();
    let table = if place == Place::Record { String::new() } else { format!("table: {}, ", at(Place::Table, "facts")) };
    let group = if place == Place::GroupedField { name } else { "who" };
    let yaml = format!(
        "streams:\n  facts: {{ {table}schema: fact.avsc, key: who, event_time: at }}\npipelines:\n  facts:\n    from: facts\n    \
         steps:\n      - window: {{ name: \"{}\", tumbling: 60s, group_by: [\"{group}\"], select: {{ \"{}\": count(*) }} }}\n",
        at(Place::Window, "totals"),
        at(Place::Selected, "records"),
    );
    let file = folder.join("config.yaml");
    fs::write(&file, yaml).unwrap();
    let sources = Sources { file: Some(file), ..Sources::default() };
    plan::load(&sources).map(|(_, plan)| plan).map_err(|faults| faults.named)
}

fn spellings(name: &str) -> [String; 3] {
    let (first, rest) = name.split_at(1);
    [name.to_owned(), name.to_uppercase(), first.to_uppercase() + rest]
}

#[tokio::test]
async fn whatever_the_check_accepts_opens_a_database() {
    let folder = tempfile::tempdir().unwrap();
    let names = OWN_COLUMNS.iter().chain(&WINDOW_COLUMNS).chain(&OWN_TABLES).chain(&OTHERS);
    let (mut accepted, mut refused) = (0, 0);
    for name in names.flat_map(|name| spellings(name)) {
        for place in PLACES {
            match loaded(folder.path(), &name, place) {
                Ok(plan) => {
                    let file = folder.path().join(format!("{accepted}.db"));
                    let opened = SqlStore::open(&file, &SqliteSettings::default(), plan.layout()).await;
                    assert!(opened.is_ok(), "{name} as {place:?}: {:?}", opened.err());
                    accepted += 1;
                }
                Err(faults) => {
                    let section = if place == Place::Window || place == Place::Selected { "pipelines" } else { "" };
                    assert!(
                        faults.iter().all(|fault| fault.path.starts_with(section)),
                        "{name} as {place:?}: {faults:?}"
                    );
                    refused += 1;
                }
            }
        }
    }
    assert!(accepted > 100 && refused > 100, "{accepted} {refused}");
}

/// The fault of a name in a place.
fn refused(name: &str, place: Place) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let faults = loaded(folder.path(), name, place).err().unwrap_or_else(|| panic!("{name} as {place:?} is accepted"));
    (faults[0].path.clone(), faults[0].message.clone())
}

#[test]
fn a_field_that_would_be_a_column_of_ours_is_refused_in_any_spelling_and_accepted_in_a_nested_record() {
    let folder = tempfile::tempdir().unwrap();
    for own in OWN_COLUMNS {
        for name in spellings(own) {
            let (path, message) = refused(&name, Place::Field);
            assert_eq!(path, "streams.facts.schema");
            assert!(message.contains(&format!("field '{name}'")) && message.contains("Avro alias"), "{message}");
            let plan = loaded(folder.path(), &name, Place::NestedField).unwrap();
            assert!(plan.streams[0].schema.column_index(&format!("meta_{name}")).is_some());
        }
    }
    let plan = loaded(folder.path(), "created_at", Place::Field).unwrap();
    assert!(plan.streams[0].schema.column_index("created_at").is_some(), "the API shows the record's own");
}

#[test]
fn a_column_of_a_window_that_it_has_itself_is_refused_at_its_place() {
    for own in WINDOW_COLUMNS.iter().filter(|own| !OWN_COLUMNS.contains(own)) {
        for name in spellings(own) {
            let (path, message) = refused(&name, Place::GroupedField);
            assert_eq!(path, "pipelines.facts.steps.0.window.group_by", "{message}");
        }
        let (path, _) = refused(own, Place::Selected);
        assert_eq!(path, format!("pipelines.facts.steps.0.window.select.{own}"));
    }
}

#[tokio::test]
async fn no_stream_and_no_window_is_called_like_what_every_database_has() {
    for name in names_of_an_empty_database().await {
        refused(&name, Place::Window);
        refused(&name, Place::Table);
    }
    for record in ["Alert", "Alerts", "alert", "DeadLetter", "dead_letters", "_sqlx_migrations"] {
        let (path, message) = refused(record, Place::Record);
        assert_eq!(path, "streams.facts.schema");
        assert!(message.contains("set streams.facts.table"), "{message}");
    }
}

fn faults_of(yaml: &str) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    for record in ["Fact", "Order"] {
        let schema = format!(
            r#"{{"type": "record", "name": "{record}", "fields": [{{"name": "who", "type": "string"}}, {{"name": "z", "type": "string"}},
                {{"name": "at", "type": {{"type": "long", "logicalType": "timestamp-millis"}}}}]}}"#
        );
        fs::write(folder.path().join(format!("{record}.avsc")), schema).unwrap();
    }
    let file = folder.path().join("config.yaml");
    fs::write(&file, yaml).unwrap();
    let sources = Sources { file: Some(file), ..Sources::default() };
    let faults = plan::load(&sources).err().map_or_else(Vec::new, |faults| faults.named);
    faults.iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect()
}

#[test]
fn streams_tables_topics_and_indexes_that_meet_are_refused_where_the_second_is() {
    let stream =
        |name: &str, more: &str| format!("  {name}: {{ schema: Fact.avsc, key: who, event_time: at{more} }}\n");
    let two = |one: &str, other: &str| format!("streams:\n{one}{other}");
    let cases = [
        (two(&stream("a", ""), &stream("b", "")), "streams.b.schema: the table 'facts' belongs to stream a"),
        (
            two(&stream("a", ", table: x"), &stream("b", ", table: x")),
            "streams.b.table: 'x' is taken by streams.a.table",
        ),
        (two(&stream("a", ", topic: t, table: x"), &stream("b", ", topic: t")), "streams.b.topic: 't' is taken"),
        (two(&stream("a", ""), &stream("alerts", ", table: x")), "streams.alerts: /ws/alerts is another socket"),
        (two(&stream("supervision", ""), ""), "streams.supervision: /ws/supervision is another socket"),
        (two(&stream("a", ", topic: _schemas"), ""), "streams.a.topic: '_schemas' is taken by registry.embedded.topic"),
        (two(&stream("a", ", topic: __consumer_offsets"), ""), "is a topic of brokers"),
        (two(&stream("a", ", topic: dlq-messages"), ""), "streams.a.topic: 'dlq-messages' is taken by dlq.topic"),
        (two(&stream("a", ", topic: system-alerts"), ""), "streams.a.topic: 'system-alerts' is taken by alerts.topic"),
        (
            two(&stream("a", ", table: b_who"), &stream("c", ", table: b")),
            "streams.c.table: the index 'b_who' of stream c has the name of a table or index of stream a",
        ),
        (
            two(&stream("a", ", table: alerts_new_z"), &stream("c", ", table: alerts_new, indexes: [z]")),
            "streams.c.table: the index 'alerts_new_z'",
        ),
        (
            stream("streams:\n  a", "")
                + "pipelines:\n  a: { from: a, steps: [{ window: { name: facts, tumbling: 1s, select: { n: count(*) } } }] }\n",
            "pipelines.a.steps.0.window.name: the table 'facts' belongs to stream a",
        ),
        (
            stream("streams:\n  a", "")
                + "pipelines:\n  a: { from: a, steps: [{ window: { name: w, tumbling: 1s, group_by: [z], select: { m: avg(1.5), m_sum: count(*) } } }] }\n",
            "m_sum",
        ),
    ];
    for (yaml, expected) in cases {
        let faults = faults_of(&yaml.replace("  streams:", "streams:"));
        assert!(faults.iter().any(|fault| fault.contains(expected)), "{yaml}\n{expected}\n{faults:#?}");
    }
}
