//! A topic that is deleted, with or without a registry that remembers: no id is given to a second schema.

use super::{A, B_DEFAULT, B_REQUIRED, Fault, Topic, avro, schema, storage::told};
use crate::registry::{
    Force, HighestId, Level, Mode, Permanent, Registry, RegistryError, SettingsUpdate, Submission, Visible, Which,
    log::LogError,
};

/// Three schemas, of which the last is deleted for ever and the second is deleted; settings and modes.
fn filled(topic: &Topic) -> Registry {
    let registry = topic.open();
    for (subject, fields) in [("a", A), ("b", B_DEFAULT), ("c", B_REQUIRED)] {
        registry.register(subject, &avro(fields)).unwrap();
    }
    registry.delete_subject("b", Permanent(false)).unwrap();
    for permanent in [false, true] {
        registry.delete_subject("c", Permanent(permanent)).unwrap();
    }
    registry.set_settings(None, SettingsUpdate { level: Some(Level::Full), normalize: None }).unwrap();
    registry.set_mode(Some("a"), Mode::ReadOnly, Force::No).unwrap();
    registry
}

fn lose(topic: &Topic, registry: &Registry) {
    topic.delete();
    let lost = registry.catch_up().unwrap_err();
    assert!(matches!(lost, RegistryError::Store(LogError::Lost(_))), "{lost}");
    assert!(registry.definition(1).is_some(), "it answers from memory");
}

#[test]
fn what_a_lost_topic_held_is_written_back_under_the_same_ids() {
    let topic = Topic::default();
    let registry = filled(&topic);
    let before = told(&registry);
    lose(&topic, &registry);
    assert_eq!(registry.restored(), None);
    registry.catch_up().unwrap();
    assert!(registry.restored().unwrap().1.contains("5 records were written back"), "{:?}", registry.restored());
    for registry in [registry, topic.open(), topic.compacted().open()] {
        assert_eq!(told(&registry), before);
        assert_eq!((registry.level(None), registry.max_id()), (Level::Full, 3));
        assert_eq!(registry.register("d", &avro(B_REQUIRED)).unwrap().id, 4, "3 was given once");
    }
}

#[test]
fn who_registers_or_looks_up_finds_a_lost_topic_whole_again() {
    let topic = Topic::default();
    let registry = filled(&topic);
    topic.delete();
    assert_eq!(registry.register("d", &avro("")).unwrap().id, 4);
    topic.delete();
    registry.catch_up_since(std::time::Instant::now()).unwrap();
    assert_eq!(told(&topic.open()), told(&registry));
    assert_eq!(registry.subjects("", Visible::Live), ["a", "d"]);
}

#[test]
fn a_topic_that_cannot_be_made_again_is_made_once_it_can() {
    let topic = Topic::default();
    let registry = filled(&topic);
    let before = told(&registry);
    lose(&topic, &registry);
    topic.fail(Fault::Down);
    for _ in 0..2 {
        let refused = registry.catch_up().unwrap_err();
        assert!(matches!(refused, RegistryError::Store(LogError::Unavailable(_))), "{refused}");
    }
    assert_eq!(told(&registry), before);
    topic.recover();
    registry.catch_up().unwrap();
    assert_eq!(told(&topic.open()), before);
}

#[test]
fn what_others_registered_in_the_new_topic_stays_and_an_id_of_two_schemas_is_named() {
    let topic = Topic::default();
    let registry = filled(&topic);
    topic.delete();
    topic.make();
    // A registry that knows of nothing gives id 1 to another schema.
    let other = topic.open();
    assert_eq!(other.register("x", &avro(B_REQUIRED)).unwrap().id, 1);
    assert!(registry.catch_up().is_err());
    registry.catch_up().unwrap();
    let said = registry.restored().unwrap().1;
    assert!(said.contains("version 1 of subject a had the id 1, which another schema has"), "{said}");
    assert_eq!(registry.definition(1).unwrap().text, schema(B_REQUIRED).into());
    assert_eq!(registry.version("b", Which::Number(1), Visible::All).unwrap().id, 2);
    other.catch_up().unwrap();
    assert_eq!(told(&other), told(&registry));
    assert_eq!(other.register("y", &avro("")).unwrap().id, 4);
}

#[test]
fn a_large_registry_is_written_back_in_parts() {
    let topic = Topic::default();
    let registry = topic.open();
    let filler = "x".repeat(1_000_000);
    for number in 0..10 {
        let text = format!(r#"{{"type":"enum","name":"E","symbols":["A{number}"],"doc":"{filler}"}}"#);
        registry.register(&format!("s{number}"), &Submission::avro(&text)).unwrap();
    }
    let before = told(&registry);
    lose(&topic, &registry);
    registry.catch_up().unwrap();
    assert_eq!(told(&topic.open()), before);
    assert!(topic.appends() > 2, "{} transactions", topic.appends());
}

#[test]
fn no_id_is_given_again_where_the_topic_was_deleted_while_nobody_ran() {
    let folder = tempfile::tempdir().unwrap();
    let highest = || HighestId::in_file(folder.path().join("highest")).unwrap();
    let topic = Topic::default();
    let registry = topic.open_with(highest());
    for fields in [A, B_DEFAULT, B_REQUIRED] {
        registry.register(fields, &avro(fields)).unwrap();
    }
    drop(registry);
    topic.delete();
    topic.make();
    let registry = topic.open_with(highest());
    assert_eq!((registry.definition(1), registry.max_id()), (None, 3));
    assert_eq!(topic.open().max_id(), 0);
    registry.set_settings(None, SettingsUpdate { level: Some(Level::Full), normalize: None }).unwrap();
    assert_eq!(topic.open().max_id(), 3, "other registries know it from the topic, whatever is written first");
    assert_eq!(registry.register("s", &avro(B_REQUIRED)).unwrap().id, 4);
    assert_eq!(topic.open().register("t", &avro("")).unwrap().id, 5);
}

#[test]
fn ids_that_other_registries_gave_are_kept_too() {
    let folder = tempfile::tempdir().unwrap();
    let highest = || HighestId::in_file(folder.path().join("highest")).unwrap();
    let topic = Topic::default();
    let follower = topic.open_with(highest());
    topic.open().register("s", &avro(A)).unwrap();
    follower.catch_up().unwrap();
    assert_eq!(highest().kept(), 1);
}

#[test]
fn an_id_that_cannot_be_kept_is_not_given() {
    let folder = tempfile::tempdir().unwrap();
    let highest = HighestId::in_file(folder.path().join("gone/highest")).unwrap();
    let topic = Topic::default();
    let refused = topic.open_with(highest).register("s", &avro(A)).unwrap_err();
    assert!(refused.code() == 50001 && refused.to_string().contains("gone/highest"), "{refused}");
    assert_eq!(topic.records(), []);
}
