use std::collections::BTreeMap;

use super::*;

const SENSORS: &str = include_str!("../../../../schemas/sensor_reading.avsc");

fn record_of(fields: &str) -> String {
    format!(r#"{{"type":"record","name":"R","namespace":"a.b","fields":[{fields}]}}"#)
}

fn error_of(fields: &str) -> String {
    StreamSchema::parse(&record_of(fields)).unwrap_err().to_string()
}

#[test]
fn nested_records_become_flat_columns() {
    let schema = StreamSchema::parse(SENSORS).unwrap();
    assert_eq!(schema.name, "com.streaming.sensor.SensorReading");
    let columns: Vec<&str> = schema.fields.iter().map(|field| field.column.as_str()).collect();
    assert_eq!(
        columns,
        ["sensor_id", "sensor_type", "value", "timestamp", "location", "anomaly", "battery_level", "signal_strength"]
    );
    let types: Vec<String> = schema.arrow.fields().iter().map(|field| field.data_type().to_string()).collect();
    assert_eq!(types[3], "Timestamp(ms, \"UTC\")");
    assert_eq!(types[6], "Int32");
    assert_eq!(schema.fields[5].default, Some(Scalar::Boolean(false)));
    assert_eq!(schema.column_index("battery_level"), Some(6));
    assert_eq!(schema.column_index("metadata.battery_level"), Some(6));
    assert_eq!(schema.column_index("metadata"), None);
}

#[test]
fn leaves_that_share_a_name_get_their_whole_path() {
    let inner = r#"{"type":"record","name":"I","fields":[{"name":"id","type":"int"},{"name":"x","type":"int"}]}"#;
    let schema = StreamSchema::parse(&record_of(&format!(
        r#"{{"name":"id","type":"int"}},{{"name":"a","type":{inner}}},{{"name":"b","type":"I"}}"#
    )))
    .unwrap();
    let columns: Vec<&str> = schema.fields.iter().map(|field| field.column.as_str()).collect();
    assert_eq!(columns, ["id", "a_id", "a_x", "b_id", "b_x"]);
    assert_eq!(schema.column_index("b.x"), Some(4));
}

#[test]
fn column_names_that_differ_in_case_alone_clash() {
    let error = error_of(r#"{"name":"Value","type":"int"},{"name":"value","type":"int"}"#);
    assert_eq!(error, "the fields Value and value would both be the column value");
}

#[test]
fn null_may_come_first_or_second() {
    let schema = StreamSchema::parse(&record_of(
        r#"{"name":"a","type":["null","int"],"default":null},{"name":"b","type":["int","null"],"default":7}"#,
    ))
    .unwrap();
    assert!(schema.fields.iter().all(|field| field.nullable && field.kind == Kind::Int));
    assert_eq!(schema.fields[0].default, Some(Scalar::Null));
    assert_eq!(schema.fields[1].default, Some(Scalar::Integer(7)));
    assert!(schema.arrow.field(1).is_nullable());
}

#[test]
fn a_default_of_a_record_is_the_default_of_its_leaves() {
    let inner =
        r#"{"type":"record","name":"I","fields":[{"name":"x","type":"int"},{"name":"y","type":"int","default":2}]}"#;
    let schema =
        StreamSchema::parse(&record_of(&format!(r#"{{"name":"a","type":{inner},"default":{{"x":1,"y":2}}}}"#)))
            .unwrap();
    assert_eq!(schema.fields[0].default, Some(Scalar::Integer(1)));
    let error = error_of(&format!(r#"{{"name":"a","type":{inner},"default":{{"x":1,"y":3}}}}"#));
    assert!(error.starts_with("field a.y: the default differs"), "{error}");
}

#[test]
fn a_logical_type_on_the_field_is_a_plain_long() {
    let schema = StreamSchema::parse(&record_of(r#"{"name":"t","type":"long","logicalType":"timestamp-millis"}"#));
    assert_eq!(schema.unwrap().fields[0].kind, Kind::Long);
}

#[test]
fn an_unsupported_type_is_named_with_its_path() {
    let inner = r#"{"type":"record","name":"I","fields":[{"name":"x","type":{"type":"array","items":"int"}}]}"#;
    let error = error_of(&format!(r#"{{"name":"a","type":{inner}}}"#));
    assert!(error.starts_with("field a.x: array is not supported; supported are boolean, int"), "{error}");
    for (kind, found) in [
        (r#"{"type":"map","values":"int"}"#, "map"),
        (r#""bytes""#, "bytes"),
        (r#"{"type":"fixed","name":"F","size":4}"#, "fixed F"),
        (r#"["int","string"]"#, "union of int, string"),
        (r#"["null","int","string"]"#, "union of null, int, string"),
        (r#"{"type":"bytes","logicalType":"decimal","precision":39,"scale":2}"#, "decimal(39, 2)"),
        (r#"{"type":"int","logicalType":"date"}"#, "date"),
        (r#"["null",{"type":"record","name":"N","fields":[]}]"#, "record N"),
    ] {
        let error = error_of(&format!(r#"{{"name":"f","type":{kind}}}"#));
        assert!(error.starts_with(&format!("field f: {found} is not supported")), "{error}");
    }
}

#[test]
fn a_record_inside_itself_is_too_deep() {
    let error = error_of(r#"{"name":"next","type":"a.b.R"}"#);
    assert!(error.contains("nested deeper than 16 levels"), "{error}");
}

#[test]
fn what_is_no_record_or_no_schema_is_refused() {
    assert!(matches!(StreamSchema::parse("\"int\""), Err(SchemaError::NotARecord { .. })));
    assert!(matches!(StreamSchema::parse("{"), Err(SchemaError::Syntax(_))));
    assert!(matches!(StreamSchema::parse(&record_of("")), Err(SchemaError::Empty)));
    assert!(matches!(StreamSchema::parse(&" ".repeat(MAX_SCHEMA_BYTES + 1)), Err(SchemaError::TooLong { .. })));
}

#[test]
fn a_field_keeps_the_column_that_it_has_and_no_other_field_gets_its_name() {
    let inner = r#"{"type":"record","name":"I","fields":[{"name":"code","type":"int"}]}"#;
    let one = record_of(&format!(r#"{{"name":"origin","type":{inner}}}"#));
    let two = record_of(&format!(r#"{{"name":"target","type":{inner}}},{{"name":"origin","type":"I"}}"#));
    let columns = |schema: &StreamSchema| {
        schema.fields.iter().map(|field| (field.dotted(), field.column.clone())).collect::<BTreeMap<_, _>>()
    };
    let first = columns(&StreamSchema::parse(&one).unwrap());
    assert_eq!(first["origin.code"], "code");
    let both = columns(&StreamSchema::parse_with(&two, &first).unwrap());
    assert_eq!((&*both["origin.code"], &*both["target.code"]), ("code", "target_code"));
    assert_eq!(columns(&StreamSchema::parse_with(&two, &both).unwrap()), both);
    // The name stays taken when its field has gone, and comes back with it.
    let without = record_of(&format!(r#"{{"name":"target","type":{inner}}}"#));
    let other = columns(&StreamSchema::parse_with(&without, &first).unwrap());
    assert_eq!(other["target.code"], "target_code");
    let longer = BTreeMap::from([("origin.code".to_owned(), "origin_code".to_owned())]);
    assert_eq!(columns(&StreamSchema::parse_with(&one, &longer).unwrap()), longer);
}
