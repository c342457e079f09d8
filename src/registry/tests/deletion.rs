//! Soft and permanent deletion, modes and imports.

use super::{A, B_DEFAULT, Topic, avro};
use crate::registry::{
    Definition, Force, Mode, Permanent, Reference, Registry, SchemaType, Submission, Visible, Which,
};

const FIRST: Which = Which::Number(1);

fn two_versions() -> Registry {
    let registry = Topic::default().open();
    registry.register("s", &avro(A)).unwrap();
    registry.register("s", &avro(&format!("{A},{B_DEFAULT}"))).unwrap();
    registry
}

#[test]
fn a_deleted_version_is_hidden_and_its_id_still_resolves() {
    let registry = two_versions();
    assert_eq!(registry.delete_version("s", Which::Latest, Permanent(false)).unwrap(), 2);
    assert_eq!(registry.versions("s", Visible::Live).unwrap(), [1]);
    assert_eq!(registry.versions("s", Visible::All).unwrap(), [1, 2]);
    assert_eq!(registry.versions("s", Visible::Deleted).unwrap(), [2]);
    assert_eq!(registry.version("s", Which::Latest, Visible::Live).unwrap().version, 1);
    assert!(registry.version("s", Which::Number(2), Visible::Live).is_err());
    assert!(registry.definition(2).is_some());
    assert_eq!(registry.uses(2, Visible::Live).unwrap(), []);
}

#[test]
fn a_deleted_schema_that_comes_back_has_its_id_and_the_next_version() {
    let registry = two_versions();
    assert_eq!(registry.delete_subject("s", Permanent(false)).unwrap(), [1, 2]);
    let back = registry.register("s", &avro(A)).unwrap();
    assert_eq!((back.id, back.version), (1, 3));
    assert_eq!(registry.versions("s", Visible::All).unwrap(), [2, 3]);
}

#[test]
fn a_permanently_deleted_subject_leaves_nothing() {
    let registry = two_versions();
    registry.set_mode(Some("s"), Mode::ReadWrite, Force::No).unwrap();
    registry.delete_subject("s", Permanent(false)).unwrap();
    assert_eq!(registry.delete_subject("s", Permanent(true)).unwrap(), [1, 2]);
    assert_eq!(registry.subjects("", Visible::All), Vec::<String>::new());
    assert_eq!((registry.definition(1), registry.own_mode(Some("s"))), (None, None));
    assert_eq!(registry.register("s", &avro(A)).unwrap().version, 1);
}

#[test]
fn a_version_that_others_refer_to_stays() {
    let registry = two_versions();
    let references = vec![Reference { name: "R".to_owned(), subject: "s".to_owned(), version: 1 }];
    let definition = Definition { references, ..Definition::new(SchemaType::Avro, r#"["null","R"]"#) };
    registry.register("user", &Submission { definition, ..avro("") }).unwrap();
    assert_eq!(registry.delete_version("s", FIRST, Permanent(false)).unwrap_err().code(), 42206);
    assert_eq!(registry.delete_subject("s", Permanent(false)).unwrap_err().code(), 42206);
    registry.delete_subject("user", Permanent(false)).unwrap();
    registry.delete_version("s", FIRST, Permanent(false)).unwrap();
    assert_eq!(registry.delete_version("s", FIRST, Permanent(true)).unwrap_err().code(), 42206);
    registry.delete_subject("user", Permanent(true)).unwrap();
    registry.delete_version("s", FIRST, Permanent(true)).unwrap();
}

#[test]
fn an_import_keeps_the_ids_and_versions_of_elsewhere() {
    let registry = Topic::default().open();
    registry.set_mode(Some("s"), Mode::Import, Force::No).unwrap();
    let import = |fields: &str, id, version| Submission { id: Some(id), version: Some(version), ..avro(fields) };
    let imported = registry.register("s", &import(A, 40, 7)).unwrap();
    assert_eq!((imported.id, imported.version), (40, 7));
    assert_eq!(registry.register("s", &import(r#"{"name":"z","type":"int"}"#, 41, 9)).unwrap().version, 9);
    assert_eq!(registry.register("s", &import(B_DEFAULT, 40, 8)).unwrap_err().code(), 42205);
    assert_eq!(registry.register("s", &import(A, 44, 7)).unwrap_err().code(), 42207);
    assert_eq!(registry.register("s", &avro(B_DEFAULT)).unwrap_err().code(), 42205);
    registry.set_mode(Some("s"), Mode::ReadWrite, Force::No).unwrap();
    assert_eq!(registry.register("t", &avro(B_DEFAULT)).unwrap().id, 42);
    assert_eq!(registry.register("t", &import(A, 40, 2)).unwrap_err().code(), 42205);
}

#[test]
fn import_wants_no_versions_and_removes_deleted_ones() {
    let registry = two_versions();
    assert_eq!(registry.set_mode(None, Mode::Import, Force::No).unwrap_err().code(), 42205);
    registry.delete_subject("s", Permanent(false)).unwrap();
    registry.set_mode(None, Mode::Import, Force::No).unwrap();
    assert_eq!(registry.subjects("", Visible::All), Vec::<String>::new());
    assert_eq!(registry.max_id(), 2);
    let forced = two_versions();
    forced.set_mode(Some("s"), Mode::Import, Force::Yes).unwrap();
    assert_eq!(forced.versions("s", Visible::Live).unwrap(), [1, 2]);
}

#[test]
fn a_read_only_subject_answers_and_does_not_change() {
    let registry = two_versions();
    registry.set_mode(Some("s"), Mode::ReadOnly, Force::No).unwrap();
    assert_eq!(registry.register("s", &avro(A)).unwrap().version, 1);
    assert_eq!(registry.register("s", &avro("")).unwrap_err().code(), 42205);
    assert_eq!(registry.delete_subject("s", Permanent(false)).unwrap_err().code(), 42205);
    assert_eq!(registry.delete_version("s", FIRST, Permanent(false)).unwrap_err().code(), 42205);
    assert_eq!(registry.set_settings(Some("s"), Default::default()).unwrap_err().code(), 42205);
    registry.register("other", &avro(A)).unwrap();
    registry.set_mode(Some("other"), Mode::ReadWrite, Force::No).unwrap();
    registry.set_mode(None, Mode::ReadOnly, Force::No).unwrap();
    registry.register("other", &avro(&format!("{A},{B_DEFAULT}"))).unwrap();
    registry.set_mode(None, Mode::ReadOnlyOverride, Force::No).unwrap();
    assert_eq!(registry.register("other", &avro("")).unwrap_err().code(), 42205);
}
