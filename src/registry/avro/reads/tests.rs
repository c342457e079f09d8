//! Types that contain themselves, what is ambiguous, and how much one comparison may take.

use std::fmt::Write as _;

use apache_avro::Schema;

use super::reads;

fn said(reader: &str, writer: &str) -> Result<(), String> {
    reads(&Schema::parse_str(reader).unwrap(), &Schema::parse_str(writer).unwrap())
}

fn record(name: &str, fields: &str) -> String {
    format!(r#"{{"type":"record","name":"{name}","fields":[{fields}]}}"#)
}

#[test]
fn a_list_that_differs_in_its_last_field_does_not_fit_itself() {
    let list = |value: &str| {
        record("L", &format!(r#"{{"name":"next","type":["null","L"]}},{{"name":"value","type":"{value}"}}"#))
    };
    assert_eq!(said(&list("long"), &list("int")), Ok(()));
    let why = said(&list("int"), &list("long")).unwrap_err();
    assert_eq!(why, "field 'value': the writer's long cannot become int");
}

#[test]
fn a_branch_is_taken_back_where_the_record_behind_it_does_not_fit_after_all() {
    // `a.R` comes first and is taken to fit, until `x` of the record inside it is found not to.
    let inner = |kind: &str| record("I", &format!(r#"{{"name":"x","type":"{kind}"}}"#));
    let branch = |namespace: &str, kind: &str| {
        format!(
            r#"{{"type":"record","name":"R","namespace":"{namespace}","fields":[{{"name":"in","type":{}}}]}}"#,
            inner(kind)
        )
    };
    let writer = branch("b", "string");
    let both = format!("[{},{}]", branch("a", "int"), branch("b", "string"));
    assert_eq!(said(&both, &writer), Ok(()));
    let neither = format!("[{},{}]", branch("a", "int"), branch("b", "boolean"));
    let why = said(&neither, &writer).unwrap_err();
    assert!(why.contains("union") && why.contains("field 'in': field 'x'"), "{why}");
}

#[test]
fn records_that_lead_back_to_each_other_fall_together() {
    let ring = |kind: &str| {
        let b = record("B", &format!(r#"{{"name":"a","type":["null","A"]}},{{"name":"x","type":"{kind}"}}"#));
        record("A", &format!(r#"{{"name":"b","type":["null",{b}]}}"#))
    };
    assert_eq!(said(&ring("double"), &ring("float")), Ok(()));
    let why = said(&ring("float"), &ring("double")).unwrap_err();
    assert!(why.contains("'b'") && why.ends_with("field 'x': the writer's double cannot become float"), "{why}");
}

#[test]
fn a_field_whose_name_and_alias_are_both_written_is_refused() {
    let reader = record("R", r#"{"name":"b","aliases":["a"],"type":"int"}"#);
    let writer = record("R", r#"{"name":"a","type":"int"},{"name":"b","type":"int"}"#);
    let why = said(&reader, &writer).unwrap_err();
    assert!(why.contains("'b' and 'a'"), "{why}");
    assert_eq!(said(&reader, &record("R", r#"{"name":"a","type":"int"}"#)), Ok(()));
    assert_eq!(said(&reader, &record("R", r#"{"name":"b","type":"int"}"#)), Ok(()));
}

#[test]
fn schemas_that_are_too_large_to_compare_are_refused_with_that_reason() {
    let branches = |field: &str| {
        let mut union = String::from("[");
        for n in 0..1_000 {
            let name = format!("n{n}.R");
            let _infallible = write!(union, "{}{}", if n == 0 { "" } else { "," }, record(&name, field));
        }
        union + "]"
    };
    let why = said(&branches(r#"{"name":"x","type":"int"}"#), &branches(r#"{"name":"y","type":"int"}"#)).unwrap_err();
    assert!(why.contains("too large to compare"), "{why}");
}
