//! Renamed types and fields, logical types and promotions: what a level says, and what a stream then reads.
//!
//! The verdicts are those of the Avro specification ("Schema Resolution", "Aliases", "Logical Types") and of Avro's Java
//! library (`SchemaCompatibility`), which Confluent's registry asks.

use std::sync::Arc;

use apache_avro::{Decimal, Schema, types::Value, writer::datum::GenericDatumWriter};
use proptest::{prelude::*, sample::select, strategy::ValueTree};
use streamward_core::{
    batch::RawBatch,
    decode::{DecodeLimits, Decoder},
    encode::{push_frame, scalars_at},
    schema::{Scalar, StreamSchema},
};

use super::compatibility::refusal;
use super::{super::avro, schema};
use crate::registry::Level;

/// Whether BACKWARD takes `new` after `old`, and whether FORWARD does; the other levels follow from these.
fn verdicts(old: &str, new: &str) -> (bool, bool) {
    let takes = |level| {
        let refused = refusal(level, old, new);
        assert!(refused.as_ref().is_none_or(|why| !why.contains("Invalid schema")), "{refused:?}");
        refused.is_none()
    };
    let verdicts = (takes(Level::Backward), takes(Level::Forward));
    for (level, wanted) in [
        (Level::BackwardTransitive, verdicts.0),
        (Level::ForwardTransitive, verdicts.1),
        (Level::Full, verdicts.0 && verdicts.1),
        (Level::FullTransitive, verdicts.0 && verdicts.1),
    ] {
        assert_eq!(takes(level), wanted, "{level}: {old} then {new}");
    }
    verdicts
}

fn of(kind: &str) -> String {
    schema(&format!(r#"{{"name":"f","type":{kind}}}"#))
}

/// A bare name is a string in JSON, anything else is JSON already.
fn quoted(kind: &str) -> String {
    if kind.starts_with(['{', '[', '"']) { kind.to_owned() } else { format!("\"{kind}\"") }
}

#[test]
fn logical_types_count_as_what_is_below_them() {
    let on = |kind: &str, logical: &str| format!(r#"{{"type":"{kind}","logicalType":"{logical}"}}"#);
    let decimal = |precision: u8, scale: u8| {
        format!(r#"{{"type":"bytes","logicalType":"decimal","precision":{precision},"scale":{scale}}}"#)
    };
    let fixed = |size: u8, more: &str| format!(r#"{{"type":"fixed","name":"F","size":{size}{more}}}"#);
    let in_fixed = |size| fixed(size, r#","logicalType":"decimal","precision":4,"scale":2"#);
    let (uuid_text, uuid_fixed) = (on("string", "uuid"), fixed(16, r#","logicalType":"uuid""#));
    let duration = fixed(12, r#","logicalType":"duration""#);
    let cases = [
        (decimal(4, 2), in_fixed(8), (false, false)),
        (decimal(4, 2), decimal(4, 2), (true, true)),
        (decimal(4, 2), decimal(4, 1), (false, false)),
        (decimal(4, 2), decimal(5, 2), (false, false)),
        (decimal(4, 2), "bytes".to_owned(), (true, true)),
        (decimal(4, 2), "string".to_owned(), (false, false)),
        (on("bytes", "big-decimal"), "string".to_owned(), (false, false)),
        (on("bytes", "big-decimal"), "bytes".to_owned(), (true, true)),
        (decimal(4, 2), decimal(2, 4), (true, true)),
        (in_fixed(8), in_fixed(8), (true, true)),
        (in_fixed(8), in_fixed(9), (false, false)),
        (in_fixed(8), fixed(8, ""), (true, true)),
        (fixed(8, ""), fixed(9, ""), (false, false)),
        (fixed(12, ""), duration, (true, true)),
        (uuid_text.clone(), uuid_fixed.clone(), (false, false)),
        (uuid_text.clone(), "string".to_owned(), (true, true)),
        (uuid_text, "bytes".to_owned(), (true, true)),
        (uuid_fixed, fixed(16, ""), (true, true)),
        (on("int", "date"), "int".to_owned(), (true, true)),
        (on("int", "date"), "long".to_owned(), (true, false)),
        (on("long", "timestamp-millis"), on("long", "timestamp-micros"), (true, true)),
        (on("long", "timestamp-millis"), on("long", "local-timestamp-millis"), (true, true)),
        (on("int", "time-millis"), on("long", "time-micros"), (true, false)),
        (on("string", "made-up"), "string".to_owned(), (true, true)),
    ];
    for (old, new, wanted) in cases {
        assert_eq!(verdicts(&of(&quoted(&old)), &of(&quoted(&new))), wanted, "{old} then {new}");
    }
}

#[test]
fn a_renamed_type_follows_the_old_one_where_it_has_its_full_name_as_an_alias() {
    let named = |name: &str, more: &str| {
        [
            format!(r#"{{"type":"record","name":"{name}","fields":[{{"name":"x","type":"int"}}]{more}}}"#),
            format!(r#"{{"type":"enum","name":"{name}","symbols":["A"]{more}}}"#),
            format!(r#"{{"type":"fixed","name":"{name}","size":4{more}}}"#),
        ]
    };
    let alias = |alias: &str| format!(r#","aliases":["{alias}"]"#);
    let around: [fn(&str) -> String; 7] = [
        str::to_owned,
        of,
        |kind| of(&format!(r#"["null",{kind}]"#)),
        |kind| of(&format!(r#"{{"type":"array","items":{kind}}}"#)),
        |kind| of(&format!(r#"{{"type":"map","values":{kind}}}"#)),
        |kind| of(&format!(r#"{{"type":"array","items":["null",{kind},"string"]}}"#)),
        |kind| of(&schema(&format!(r#"{{"name":"g","type":{kind}}}"#)).replace("\"R\"", "\"Q\"")),
    ];
    let cases = [
        ("n.Old", "n.New", String::new(), (false, false)),
        ("n.Old", "n.New", alias("Old"), (true, false)),
        ("n.Old", "n.New", alias("n.Old"), (true, false)),
        ("n.Old", "m.New", alias("n.Old"), (true, false)),
        ("n.Old", "m.New", alias("Old"), (false, false)),
        ("Old", "New", alias("Old"), (true, false)),
        // Names match without their namespaces.
        ("n.Old", "m.Old", String::new(), (true, true)),
        ("n.Old", "Old", String::new(), (true, true)),
    ];
    for (old, new, aliases, wanted) in &cases {
        for (old, new) in named(old, "").iter().zip(&named(new, aliases)) {
            for around in around {
                assert_eq!(verdicts(&around(old), &around(new)), *wanted, "{} then {}", around(old), around(new));
            }
        }
    }
}

#[test]
fn a_renamed_type_that_is_changed_as_well_is_compared_by_its_parts() {
    let record = |name: &str, kind: &str| {
        format!(r#"{{"type":"record","name":"{name}","aliases":["Old"],"fields":[{{"name":"x","type":"{kind}"}}]}}"#)
    };
    let refused = refusal(Level::Backward, &of(&record("Old", "string")), &of(&record("New", "int"))).unwrap();
    assert!(refused.contains("field 'f': field 'x': the writer's string cannot become int"), "{refused}");
    let refused = refusal(Level::Backward, &of(&record("Older", "int")), &of(&record("New", "int"))).unwrap();
    assert!(refused.contains(r#"the record New, which has no alias "Older""#), "{refused}");
    let twice = |name: &str| {
        schema(&format!(r#"{{"name":"f","type":{}}},{{"name":"g","type":"{name}"}}"#, record(name, "int")))
    };
    assert_eq!(refusal(Level::Backward, &twice("Old"), &twice("New")), None);
}

/// The row that the stream `new` reads from a value written with `old`, or why it does not.
fn read(old: &str, new: &str, value: Value) -> Result<Vec<Scalar>, String> {
    let stream = StreamSchema::parse(new).unwrap();
    let mut decoder = Decoder::new(Arc::new(stream), DecodeLimits::default());
    decoder.add_writer_schema(1, old).map_err(|error| error.to_string())?;
    let parsed = Schema::parse_str(old).unwrap();
    let mut bytes = Vec::new();
    push_frame(1, &mut bytes);
    bytes.extend(GenericDatumWriter::builder(&parsed).build().unwrap().write_value_to_vec(value).unwrap());
    let mut batch = RawBatch::with_capacity(Arc::from("topic"), 0, bytes.len());
    batch.push(0, 0, None, Some(&bytes));
    let decoded = decoder.decode(&batch, 0..1);
    match decoded.rejected.into_iter().next() {
        Some(rejected) => Err(rejected.reason),
        None => Ok(scalars_at(&decoded.batch, 0)),
    }
}

fn fields_of(fields: &[(&str, Value)]) -> Value {
    Value::Record(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

fn text(text: &str) -> Scalar {
    Scalar::Text(text.to_owned())
}

#[test]
fn what_a_level_takes_is_read_with_the_new_names() {
    let old = r#"{"type":"record","name":"Reading","namespace":"a","fields":[
        {"name":"at","type":{"type":"record","name":"Place","fields":[{"name":"lon","type":"float"}]}},
        {"name":"kind","type":{"type":"enum","name":"Kind","symbols":["HOT","COLD"]}},
        {"name":"count","type":"int"},
        {"name":"day","type":{"type":"int","logicalType":"date"}},
        {"name":"price","type":["null",{"type":"fixed","name":"Money","size":4}]}]}"#;
    let new = r#"{"type":"record","name":"Sample","namespace":"b","aliases":["a.Reading"],"fields":[
        {"name":"place","aliases":["at"],"type":{"type":"record","name":"Point","aliases":["a.Place"],"fields":[
            {"name":"longitude","aliases":["lon"],"type":"double"}]}},
        {"name":"kind","type":{"type":"enum","name":"Sort","aliases":["a.Kind"],"symbols":["HOT","OTHER"],"default":"OTHER"}},
        {"name":"total","aliases":["count","n"],"type":["null","long"]},
        {"name":"day","type":{"type":"long","logicalType":"timestamp-millis"}},
        {"name":"unit","type":"string","default":"C"}]}"#;
    assert_eq!(verdicts(old, new), (true, false));
    let value = |symbol, name: &str| {
        fields_of(&[
            ("at", fields_of(&[("lon", Value::Float(0.5))])),
            ("kind", Value::Enum(symbol, name.to_owned())),
            ("count", Value::Int(7)),
            ("day", Value::Date(20_000)),
            ("price", Value::Union(1, Box::new(Value::Fixed(4, vec![1; 4])))),
        ])
    };
    let row = |kind| {
        let day = Scalar::Integer(20_000 * 86_400_000);
        vec![Scalar::Number(0.5), text(kind), Scalar::Integer(7), day, text("C")]
    };
    assert_eq!(read(old, new, value(0, "HOT")), Ok(row("HOT")));
    assert_eq!(read(old, new, value(1, "COLD")), Ok(row("OTHER")));
}

#[test]
fn what_a_level_refuses_for_its_type_is_not_read_either() {
    let decimal = r#"{"type":"fixed","name":"F","size":4,"logicalType":"decimal","precision":4,"scale":2}"#;
    let cases = [
        (of(decimal), Value::Decimal(Decimal::from(vec![0, 0, 0, 1]))),
        (of(r#"{"type":"enum","name":"F","symbols":["A"]}"#), Value::Enum(0, "A".to_owned())),
        (of(r#""double""#), Value::Double(1.0)),
    ];
    for (old, value) in cases {
        assert!(!verdicts(&old, &of(r#""string""#)).0, "{old}");
        let refused = read(&old, &of(r#""string""#), fields_of(&[("f", value)])).unwrap_err();
        assert!(refused.contains("cannot become"), "{old}: {refused}");
    }
}

const TYPES: [&str; 16] = [
    r#""boolean""#,
    r#""int""#,
    r#""long""#,
    r#""float""#,
    r#""double""#,
    r#""bytes""#,
    r#""string""#,
    r#"{"type":"int","logicalType":"date"}"#,
    r#"{"type":"int","logicalType":"time-millis"}"#,
    r#"{"type":"long","logicalType":"timestamp-millis"}"#,
    r#"{"type":"long","logicalType":"timestamp-micros"}"#,
    r#"{"type":"long","logicalType":"local-timestamp-nanos"}"#,
    r#"{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}"#,
    r#"{"type":"string","logicalType":"uuid"}"#,
    r#"{"type":"fixed","name":"NAME","size":2}"#,
    r#"{"type":"enum","name":"NAME","symbols":["A","B"]}"#,
];

/// A field of one side: its name or, as a rename, its alias; a type; whether it is optional.
fn any_field(at: usize) -> impl Strategy<Value = String> {
    const MORE: [&str; 2] = [r#","symbols":["B"],"default":"B""#, r#","symbols":["A","B"],"aliases":["E0","n.E1"]"#];
    (select(&TYPES[..]), 0..4_usize, any::<bool>(), any::<bool>(), select(&MORE[..])).prop_map(
        move |(kind, form, is_renamed, has_default, more)| {
            let kind = kind.replace("NAME", &format!("E{}", at + usize::from(is_renamed)));
            let kind = kind.replace(r#","symbols":["A","B"]"#, more);
            let kind = match form {
                0 => format!(r#"["null",{kind}]"#),
                1 => format!(r#"[{kind},"null"]"#),
                _ => kind,
            };
            let name = if is_renamed {
                format!(r#""name":"new{at}","aliases":["old{at}"]"#)
            } else {
                format!(r#""name":"old{at}""#)
            };
            let default = if has_default && form == 0 { r#","default":null"# } else { "" };
            format!(r#"{{{name},"type":{kind}{default}}}"#)
        },
    )
}

fn record_of(name: &str, fields: &[String]) -> String {
    let fields = fields.join(",");
    format!(r#"{{"type":"record","name":"{name}","aliases":["n.Old","n.New"],"fields":[{fields}]}}"#)
}

fn any_fields() -> impl Strategy<Value = Vec<String>> {
    let fields = (any_field(0), any_field(10), any_field(20));
    (fields, 1..3_usize).prop_map(|((a, b, c), count)| [a, b, c][..count].to_vec())
}

const NAMES: [&str; 4] = ["n.Old", "n.New", "m.Old", "n.Other"];

/// The schema of a stream; sometimes with a second field that is read from what the first one is called after.
fn any_reader() -> impl Strategy<Value = String> {
    const ALSO: &str = r#"{"name":"also","aliases":["old0"],"type":["null","long"],"default":null}"#;
    (any_fields(), select(&NAMES[..]), 0..4_u8).prop_map(|(mut fields, name, form)| {
        fields.extend((form == 0).then(|| ALSO.to_owned()));
        record_of(name, &fields)
    })
}

/// What a producer writes with: a record, or a union with one or two; sometimes with a field that contains itself.
fn any_writer() -> impl Strategy<Value = String> {
    const LIST: &str = r#"{"name":"list","type":{"type":"record","name":"L","fields":[{"name":"next","type":["null","L"]},
        {"name":"value","type":"long"}]}}"#;
    (any_fields(), any_fields(), select(&NAMES[..]), any::<bool>(), 0..8_u8).prop_map(
        |(mut fields, others, name, has_list, form)| {
            fields.extend(has_list.then(|| LIST.to_owned()));
            let record = record_of(name, &fields);
            let other = record_of("k.Old", &others);
            match form {
                0 => format!(r#"["null",{record}]"#),
                1 => format!("[{record},{other}]"),
                2 | 3 => format!("[{record}]"),
                4 => format!(r#"[{other},"string"]"#),
                _ => record,
            }
        },
    )
}

/// Turns in which [`some_value`] comes to every branch and symbol.
const TURNS: usize = 8;

/// Some value of a type, of which the branches and symbols depend on the turn.
fn some_value(schema: &Schema, turn: usize) -> Value {
    match schema {
        Schema::Null => Value::Null,
        Schema::Boolean => Value::Boolean(true),
        Schema::Int => Value::Int(1),
        Schema::Long => Value::Long(2),
        Schema::Float => Value::Float(0.5),
        Schema::Double => Value::Double(0.25),
        Schema::Bytes => Value::Bytes(b"x".to_vec()),
        Schema::String => Value::String("y".to_owned()),
        Schema::Date => Value::Date(3),
        Schema::TimeMillis => Value::TimeMillis(4),
        Schema::TimestampMillis => Value::TimestampMillis(5),
        Schema::TimestampMicros => Value::TimestampMicros(6),
        Schema::LocalTimestampNanos => Value::LocalTimestampNanos(7),
        Schema::Decimal(_) => Value::Decimal(Decimal::from(b"z")),
        Schema::Uuid(_) => Value::Uuid("00000000-0000-0000-0000-000000000001".parse().unwrap()),
        Schema::Fixed(fixed) => Value::Fixed(fixed.size, vec![8; fixed.size]),
        Schema::Enum(of) => {
            let symbol = turn % of.symbols.len();
            Value::Enum(u32::try_from(symbol).unwrap(), of.symbols[symbol].clone())
        }
        Schema::Union(union) => {
            let count = union.variants().len();
            // A type that contains itself ends here.
            let branch = if matches!(union.variants()[count - 1], Schema::Ref { .. }) { 0 } else { turn % count };
            let value = some_value(&union.variants()[branch], turn / count);
            Value::Union(u32::try_from(branch).unwrap(), Box::new(value))
        }
        Schema::Record(record) => {
            let field =
                |field: &apache_avro::schema::RecordField| (field.name.clone(), some_value(&field.schema, turn));
            Value::Record(record.fields.iter().map(field).collect())
        }
        other => unreachable!("{other:?} is not made"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn what_backward_takes_is_read_and_what_it_refuses_is_not(old in any_writer(), new in any_reader()) {
        let (writer, reader) = (Schema::parse_str(&old).unwrap(), Schema::parse_str(&new).unwrap());
        let verdict = avro::reads(&reader, &writer);
        if StreamSchema::parse(&new).is_ok() {
            let rows: Vec<_> = (0..TURNS).map(|turn| read(&old, &new, some_value(&writer, turn))).collect();
            prop_assert_eq!(rows.iter().all(Result::is_ok), verdict.is_ok(), "{:?} {:?}: {} then {}", rows, verdict, old, new);
        }
    }
}

#[test]
fn the_property_meets_enough_that_is_taken_and_enough_that_is_refused() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let pairs = (any_writer(), any_reader());
    let verdicts = (0..2_000).filter_map(|_| {
        let (old, new) = pairs.new_tree(&mut runner).unwrap().current();
        let (writer, reader) = (Schema::parse_str(&old).unwrap(), Schema::parse_str(&new).unwrap());
        let is_union = matches!(writer, Schema::Union(_));
        StreamSchema::parse(&new).is_ok().then(|| (avro::reads(&reader, &writer).is_ok(), is_union))
    });
    let verdicts: Vec<(bool, bool)> = verdicts.collect();
    for of in [(true, false), (true, true), (false, false), (false, true)] {
        let count = verdicts.iter().filter(|verdict| **verdict == of).count();
        assert!(count >= 10, "{of:?}: {count} of {}", verdicts.len());
    }
}

#[test]
fn a_field_of_the_writer_is_not_read_into_two() {
    let old = schema(r#"{"name":"old","type":"int"}"#);
    let two = [
        r#"{"name":"a","aliases":["old"],"type":"int"},{"name":"b","aliases":["old"],"type":"int","default":0}"#,
        r#"{"name":"old","type":"int"},{"name":"b","aliases":["old"],"type":"int"}"#,
    ];
    for (fields, first) in two.into_iter().zip(["a", "old"]) {
        let new = schema(fields);
        let refused = refusal(Level::Backward, &old, &new).unwrap();
        assert!(
            refused.contains(&format!("field 'b': the writer's 'old' is read into '{first}' as well")),
            "{refused}"
        );
        let refused = read(&old, &new, fields_of(&[("old", Value::Int(1))])).unwrap_err();
        assert!(refused.contains(&format!("both {first} and b")), "{refused}");
    }
}

#[test]
fn a_top_that_is_a_union_of_records_is_read_where_each_of_them_is() {
    let record = |name: &str, kind: &str| {
        format!(r#"{{"type":"record","name":"{name}","fields":[{{"name":"x","type":"{kind}"}}]}}"#)
    };
    let (new, both) = (record("R", "long"), format!("[{},{}]", record("R", "int"), record("n.R", "long")));
    assert_eq!(verdicts(&both, &new), (true, true));
    for (branch, value) in [(0, Value::Int(3)), (1, Value::Long(3))] {
        let value = Value::Union(branch, Box::new(fields_of(&[("x", value)])));
        assert_eq!(read(&both, &new, value), Ok(vec![Scalar::Integer(3)]));
    }
}

#[test]
fn a_schema_of_more_fields_than_the_stream_has_is_read_if_it_is_taken() {
    let fields = (0..24_000).map(|n| format!(r#"{{"name":"f{n}","type":["null","int"]}}"#));
    let (old, new) = (schema(&fields.collect::<Vec<_>>().join(",")), schema(r#"{"name":"f3","type":["null","long"]}"#));
    assert_eq!(refusal(Level::Backward, &old, &new), None);
    let value = some_value(&Schema::parse_str(&old).unwrap(), 1);
    assert_eq!(read(&old, &new, value), Ok(vec![Scalar::Integer(1)]));
}
