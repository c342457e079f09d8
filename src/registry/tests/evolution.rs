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
        (decimal(4, 2), "string".to_owned(), (true, true)),
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
    decoder.add_writer_schema(1, old).unwrap();
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

fn fields(fields: &[(&str, Value)]) -> Value {
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
        fields(&[
            ("at", fields(&[("lon", Value::Float(0.5))])),
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
        let refused = read(&old, &of(r#""string""#), fields(&[("f", value)])).unwrap_err();
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

fn any_record() -> impl Strategy<Value = String> {
    let fields = (any_field(0), any_field(10), any_field(20));
    (fields, 1..3_usize, select(&["n.Old", "n.New", "m.Old"][..])).prop_map(|((a, b, c), count, name)| {
        let fields = [a, b, c][..count].join(",");
        format!(r#"{{"type":"record","name":"{name}","aliases":["n.Old","n.New"],"fields":[{fields}]}}"#)
    })
}

/// Some value of a type that a stream can hold, if it holds the type.
fn some_value(schema: &Schema, branch: usize) -> Value {
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
        Schema::Enum(symbols) => Value::Enum(0, symbols.symbols[0].clone()),
        Schema::Union(union) => {
            let branch = branch % union.variants().len();
            Value::Union(u32::try_from(branch).unwrap(), Box::new(some_value(&union.variants()[branch], 0)))
        }
        Schema::Record(record) => {
            let field =
                |field: &apache_avro::schema::RecordField| (field.name.clone(), some_value(&field.schema, branch));
            Value::Record(record.fields.iter().map(field).collect())
        }
        other => unreachable!("{other:?} is not made"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn what_backward_takes_is_read_in_every_branch(old in any_record(), new in any_record()) {
        let (writer, reader) = (Schema::parse_str(&old).unwrap(), Schema::parse_str(&new).unwrap());
        let is_taken = avro::reads(&reader, &writer).is_ok();
        if is_taken && StreamSchema::parse(&new).is_ok() {
            for branch in 0..2 {
                let row = read(&old, &new, some_value(&writer, branch));
                prop_assert!(row.is_ok(), "{row:?}: {old} then {new}");
            }
        }
    }
}

#[test]
fn the_property_meets_enough_that_is_taken() {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let pairs = (any_record(), any_record());
    let taken = (0..2_000).filter(|_| {
        let (old, new) = pairs.new_tree(&mut runner).unwrap().current();
        let (writer, reader) = (Schema::parse_str(&old).unwrap(), Schema::parse_str(&new).unwrap());
        avro::reads(&reader, &writer).is_ok() && StreamSchema::parse(&new).is_ok()
    });
    let taken = taken.count();
    assert!(taken > 50, "{taken} of 2000");
}
