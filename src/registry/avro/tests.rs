//! Canonical texts, as Avro's Java library writes them.

use super::{Form, canonical, read};

fn written(json: &str, references: &[&str], form: Form) -> String {
    let references: Vec<String> = references.iter().map(|text| (*text).to_owned()).collect();
    read(json, &references, form).unwrap().text
}

#[test]
fn attributes_come_in_one_order_and_names_as_short_as_they_can_be() {
    let cases = [
        (r#" {"type": "string"} "#, r#""string""#),
        (
            r#"["null", {"type":"long","logicalType":"timestamp-millis"}]"#,
            r#"["null",{"type":"long","logicalType":"timestamp-millis"}]"#,
        ),
        (
            r#"{"items":{"type":"int"},"type":"array","java-class":"x"}"#,
            r#"{"type":"array","items":"int","java-class":"x"}"#,
        ),
        (r#"{"values":"int","type":"map"}"#, r#"{"type":"map","values":"int"}"#),
        (
            r#"{"name":"a.b.E","symbols":["X"],"default":"X","type":"enum","aliases":["a.b.F","c.G"],"doc":"d"}"#,
            r#"{"type":"enum","name":"E","namespace":"a.b","doc":"d","symbols":["X"],"default":"X","aliases":["F","c.G"]}"#,
        ),
        (r#"{"size":4,"name":"F","type":"fixed"}"#, r#"{"type":"fixed","name":"F","size":4}"#),
        (
            r#"{"fields":[
                {"order":"ascending","default":null,"type":["null","x.R"],"name":"next"},
                {"name":"in","order":"ignore","type":{"namespace":"y","fields":[],"name":"I","type":"record"},"aliases":["i"],"own":1,"doc":""},
                {"name":"again","type":"y.I"}],"name":"R","namespace":"x","type":"record","zeta":1,"alpha":{"b":1,"a":2}}"#,
            r#"{"type":"record","name":"R","namespace":"x","fields":[{"name":"next","type":["null","R"],"default":null},{"name":"in","type":{"type":"record","name":"I","namespace":"y","fields":[]},"doc":"","order":"ignore","aliases":["i"],"own":1},{"name":"again","type":"y.I"}],"alpha":{"a":2,"b":1},"zeta":1}"#,
        ),
    ];
    for (json, wanted) in cases {
        assert_eq!(written(json, &[], Form::Canonical), wanted);
        assert_eq!(written(wanted, &[], Form::Canonical), wanted, "writing it again changes nothing");
        assert_eq!(canonical(json).unwrap(), wanted);
    }
}

const CITY: &str = r#"{"type":"enum","name":"City","namespace":"geo","symbols":["A"]}"#;
const PLACE: &str = r#"{"type":"record","name":"Place","namespace":"geo","fields":[{"name":"city","type":"City"}]}"#;

#[test]
fn types_of_references_stay_names_or_are_put_in_once() {
    let trip = r#"{"type":"record","name":"Trip","fields":[{"name":"from","type":"geo.Place"},{"name":"to","type":"geo.Place"}]}"#;
    let references = [CITY, PLACE];
    assert_eq!(written(trip, &references, Form::Canonical), trip);
    let place = r#"{"type":"record","name":"Place","namespace":"geo","fields":[{"name":"city","type":{"type":"enum","name":"City","symbols":["A"]}}]}"#;
    assert_eq!(written(trip, &references, Form::Resolved), trip.replacen(r#""geo.Place""#, place, 1));
    assert!(read(trip, &[], Form::Canonical).is_err(), "without the references");
    assert_eq!(written(r#""geo.City""#, &references, Form::Resolved), CITY);
}

#[test]
fn normal_form_sorts_aliases_and_leaves_out_empty_documentation() {
    let json = r#"{"type":"record","name":"R","doc":"","fields":[],"aliases":["b","a","b"]}"#;
    let normal = r#"{"type":"record","name":"R","fields":[],"aliases":["a","b"]}"#;
    assert_eq!(written(json, &[], Form::Normalized), normal);
}

#[test]
fn what_is_no_schema_is_refused_with_a_reason() {
    for json in ["", "{", "7", "{}", r#"{"type":"nothing"}"#, r#"{"type":"record","name":"R"}"#, r#"["int","int"]"#] {
        let refused = read(json, &[], Form::Canonical);
        assert!(refused.as_ref().is_err_and(|reason| !reason.is_empty()), "{json}: {refused:?}");
    }
}

#[test]
fn a_long_chain_of_references_is_refused_not_followed() {
    let record = |n: usize| match n {
        0 => r#"{"type":"record","name":"R0","fields":[]}"#.to_owned(),
        n => format!(r#"{{"type":"record","name":"R{n}","fields":[{{"name":"f","type":"R{}"}}]}}"#, n - 1),
    };
    let chain: Vec<String> = (0..3_000).map(record).collect();
    let flat = format!("[{}]", chain.join(","));
    let whole = read(&flat, &[], Form::Canonical).unwrap().parsed;
    assert_eq!(super::reads(&whole, &whole), Ok(()));
    assert!(read(r#""R2999""#, std::slice::from_ref(&flat), Form::Canonical).is_err());
    assert!(read(r#""R20""#, &[flat], Form::Canonical).is_ok());
}
