//! What the topic keeps: restarts, two writers, crashes, compaction, topics of Confluent's registry.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{A, B_DEFAULT, B_REQUIRED, Fault, Topic, avro, schema};
use crate::registry::{
    Definition, Force, Level, Mode, Permanent, Registry, RegistryError, SchemaType, SettingsUpdate, Submission,
    Version, Visible, Which,
};

const LATEST: Which = Which::Latest;

fn level(level: Level) -> SettingsUpdate {
    SettingsUpdate { level: Some(level), normalize: None }
}

/// All that a registry answers about its schemas and settings.
pub(super) fn told(registry: &Registry) -> (Vec<Version>, Vec<Option<Mode>>, Vec<Level>) {
    let subjects = registry.subjects("", Visible::All);
    let modes = subjects.iter().map(|subject| registry.own_mode(Some(subject))).collect();
    let levels = subjects.iter().map(|subject| registry.level(Some(subject))).collect();
    (registry.all_versions("", Visible::All), modes, levels)
}

#[test]
fn ids_versions_levels_and_modes_survive_a_restart() {
    let topic = Topic::default();
    let registry = topic.open();
    registry.register("a", &avro(A)).unwrap();
    registry.register("b", &avro(B_REQUIRED)).unwrap();
    registry.set_settings(Some("a"), level(Level::Full)).unwrap();
    registry.set_mode(Some("b"), Mode::ReadOnly, Force::No).unwrap();
    let again = topic.open();
    assert_eq!(told(&again), told(&registry));
    assert_eq!(again.version("b", LATEST, Visible::Live).unwrap().id, 2);
    assert_eq!((again.level(Some("a")), again.level(None)), (Level::Full, Level::Backward));
    assert_eq!(again.register("c", &avro("")).unwrap().id, 3);
}

#[test]
fn records_have_the_format_of_confluents_registry() {
    let topic = Topic::default();
    let registry = topic.open();
    registry.register("s", &avro(A)).unwrap();
    registry.set_settings(None, level(Level::None)).unwrap();
    registry.set_mode(Some("s"), Mode::ReadWrite, Force::No).unwrap();
    registry.delete_subject("s", Permanent(false)).unwrap();
    registry.delete_subject("s", Permanent(true)).unwrap();
    let records = topic.records();
    let keys: Vec<&str> = records.iter().map(|record| std::str::from_utf8(&record.key).unwrap()).collect();
    let wanted = [
        r#"{"keytype":"SCHEMA","subject":"s","version":1,"magic":1}"#,
        r#"{"keytype":"CONFIG","magic":0}"#,
        r#"{"keytype":"MODE","subject":"s","magic":0}"#,
        r#"{"keytype":"DELETE_SUBJECT","subject":"s","magic":0}"#,
        r#"{"keytype":"SCHEMA","subject":"s","version":1,"magic":1}"#,
        r#"{"keytype":"NOOP","magic":0}"#,
        r#"{"keytype":"MODE","subject":"s","magic":0}"#,
    ];
    assert_eq!(keys, wanted);
    let value = |at: usize| records[at].value.as_ref().map(|value| serde_json::from_slice::<Value>(value).unwrap());
    let stored = json!({"subject": "s", "version": 1, "id": 1, "schema": schema(A), "deleted": false});
    assert_eq!(value(0), Some(stored));
    assert_eq!(value(1), Some(json!({"compatibilityLevel": "NONE"})));
    assert_eq!(value(2), Some(json!({"subject": "s", "mode": "READWRITE"})));
    assert_eq!(value(3), Some(json!({"subject": "s", "version": 1})));
    assert_eq!((value(4), value(6)), (None, None));
}

#[test]
fn a_topic_of_confluents_registry_is_read() {
    let topic = Topic::default();
    let lines = [
        (r#"{"keytype":"NOOP","magic":0}"#, "null"),
        (r#"{"keytype":"CONFIG","subject":null,"magic":0}"#, r#"{"compatibilityLevel":"FULL","alias":"x"}"#),
        (
            r#"{"keytype":"SCHEMA","subject":"s","version":3,"magic":1}"#,
            r#"{"subject":"s","version":3,"id":7,"md5":"x","schema":"{\"type\":\"record\",\"name\":\"R\",\"fields\":[{\"name\":\"a\",\"type\":\"string\"}]}","deleted":false}"#,
        ),
        (
            r#"{"keytype":"SCHEMA","subject":"p","version":1,"magic":1}"#,
            r#"{"subject":"p","version":1,"id":8,"schemaType":"PROTOBUF","references":[{"name":"r","subject":"s","version":3}],"schema":"message","deleted":true}"#,
        ),
        (
            r#"{"keytype":"SCHEMA","subject":":.other:s","version":1,"magic":1}"#,
            r#"{"subject":":.other:s","version":1,"id":7,"schema":"\"int\"","deleted":false}"#,
        ),
        (r#"{"keytype":"CONTEXT","tenant":"default","context":".other","magic":0}"#, "{}"),
        (
            r#"{"keytype":"SCHEMA","subject":"late","version":1,"magic":1}"#,
            r#"{"subject":"late","version":1,"id":7,"schema":"\"int\"","deleted":false}"#,
        ),
        ("no json", "{}"),
    ];
    lines.iter().for_each(|(key, value)| topic.append(key, value));
    let registry = topic.open();
    assert_eq!(registry.subjects("", Visible::All), ["p", "s"]);
    assert_eq!(registry.level(None), Level::Full);
    assert_eq!(registry.look_up("s", &avro(A), Visible::Live).unwrap().version, 3);
    assert_eq!(&*registry.definition(7).unwrap().text, schema(A), "the first schema of an id keeps it");
    assert_eq!(registry.register("t", &avro(B_DEFAULT)).unwrap().id, 9);
    registry.set_settings(None, level(Level::None)).unwrap();
    let last = topic.records().pop().unwrap().value.unwrap();
    let kept: Value = serde_json::from_slice(&last).unwrap();
    assert_eq!(kept, json!({"compatibilityLevel": "NONE", "alias": "x"}), "what is not known is not lost");
}

#[test]
fn two_registries_on_one_topic_never_give_an_id_twice() {
    let topic = Topic::default();
    let registries = [topic.open(), topic.open()];
    let field = |name: String| schema(&format!(r#"{{"name":"{name}","type":"int"}}"#));
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let registry = registries[thread % 2].clone();
            let register = move |index: usize| {
                // Half of the schemas are registered by everybody, under the same subjects.
                let name = if index.is_multiple_of(2) { format!("f{index}") } else { format!("f{index}_{thread}") };
                let subject = format!("s{index}");
                registry.set_settings(Some(&subject), level(Level::None)).unwrap();
                let text = field(name);
                (registry.register(&subject, &Submission::avro(&text)).unwrap(), text)
            };
            #[expect(clippy::disallowed_methods, reason = "writers that race")]
            std::thread::spawn(move || (0..20).map(register).collect::<Vec<_>>())
        })
        .collect();
    let answers: Vec<(Version, String)> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    let fresh = topic.open();
    for (version, text) in &answers {
        assert_eq!(&*version.definition.text, text);
        let kept = fresh.version(&version.subject, Which::Number(version.version), Visible::All).unwrap();
        assert_eq!(kept, *version, "what was answered is what is kept");
    }
    assert_eq!(told(&topic.compacted().open()), told(&fresh));
    let ids: std::collections::BTreeSet<u32> = answers.iter().map(|(version, _)| version.id).collect();
    assert_eq!(ids.len(), 10 + 10 * 4);
}

#[test]
fn a_write_whose_answer_is_lost_is_found_again_and_not_repeated() {
    let topic = Topic::default();
    let registry = topic.open();
    topic.fail(Fault::Unheard);
    assert_eq!(registry.register("s", &avro(A)).unwrap().id, 1);
    assert_eq!(topic.records().len(), 1);
    assert_eq!(topic.open().register("s", &avro(A)).unwrap().version, 1);
}

#[test]
fn nothing_is_registered_while_the_topic_takes_nothing() {
    let topic = Topic::default();
    let registry = topic.open();
    registry.register("s", &avro(A)).unwrap();
    topic.fail(Fault::Down);
    let refused = registry.register("t", &avro(B_DEFAULT)).unwrap_err();
    assert!(matches!(refused, RegistryError::Store(_)) && refused.code() == 50001, "{refused}");
    assert_eq!(registry.subjects("", Visible::All), ["s"]);
    assert_eq!(registry.register("s", &avro(A)).unwrap().id, 1, "what is known is answered");
}

#[test]
fn a_reader_sees_what_another_registry_wrote() {
    let topic = Topic::default();
    let (writer, reader) = (topic.open(), topic.open());
    writer.register("s", &avro(A)).unwrap();
    assert_eq!(reader.subjects("", Visible::Live), Vec::<String>::new());
    reader.catch_up().unwrap();
    assert_eq!(told(&reader), told(&writer));
}

#[test]
fn an_id_is_not_given_again_after_permanent_deletion_and_compaction() {
    let topic = Topic::default();
    let registry = topic.open();
    registry.register("s", &avro(A)).unwrap();
    registry.register("t", &avro(B_DEFAULT)).unwrap();
    registry.delete_version("t", LATEST, Permanent(false)).unwrap();
    registry.delete_version("t", Which::Number(1), Permanent(true)).unwrap();
    assert_eq!(registry.definition(2), None);
    let compacted = topic.compacted();
    assert!(compacted.records().iter().all(|record| !String::from_utf8_lossy(&record.key).contains("\"t\"")));
    assert_eq!(compacted.open().register("u", &avro(B_REQUIRED)).unwrap().id, 3);
}

#[test]
fn compaction_changes_nothing_that_is_answered() {
    let topic = Topic::default();
    let registry = topic.open();
    registry.set_settings(None, level(Level::None)).unwrap();
    for fields in [A, B_DEFAULT, B_REQUIRED] {
        registry.register("s", &avro(fields)).unwrap();
    }
    registry.delete_version("s", Which::Number(2), Permanent(false)).unwrap();
    registry.delete_version("s", Which::Number(2), Permanent(true)).unwrap();
    registry.register("t", &avro(A)).unwrap();
    registry.delete_subject("t", Permanent(false)).unwrap();
    registry.register("t", &avro(A)).unwrap();
    registry.set_mode(Some("t"), Mode::ReadOnly, Force::No).unwrap();
    registry.delete_mode(Some("t")).unwrap();
    assert_eq!(told(&topic.compacted().open()), told(&registry));
    assert_eq!(told(&topic.open()), told(&registry));
    assert_eq!(registry.versions("t", Visible::All).unwrap(), [2]);
    let definitions: Vec<_> = (1..=3).map(|id| registry.definition(id).map(|found| Arc::clone(&found.text))).collect();
    assert_eq!(definitions, [Some(schema(A).into()), None, Some(schema(B_REQUIRED).into())]);
}

#[test]
fn a_registry_that_holds_all_the_bytes_it_may_takes_no_more_until_some_are_gone() {
    let topic = Topic::default();
    let text = |letter: &str| Submission {
        definition: Definition::new(SchemaType::Protobuf, &letter.repeat(400)),
        ..avro("")
    };
    let registry = topic.open_bounded(1_000);
    registry.register("a", &text("a")).unwrap();
    registry.register("b", &text("b")).unwrap();
    let refused = registry.register("c", &text("c")).unwrap_err();
    assert!(matches!(refused, RegistryError::Full(1_000)), "{refused}");
    assert_eq!(registry.register("d", &text("a")).unwrap().id, 1, "what is held takes no more");
    registry.delete_subject("b", Permanent(false)).unwrap();
    registry.delete_subject("b", Permanent(true)).unwrap();
    registry.register("c", &text("c")).unwrap();
    let again = topic.compacted().open_bounded(1_000);
    assert!(matches!(again.register("e", &text("e")), Err(RegistryError::Full(1_000))));
}
