use apache_avro::{Decimal, Schema, types::Value, writer::datum::GenericDatumWriter};

use super::*;

/// Reads `value`, written with the fields `writer`, into the fields `reader`.
fn resolved(writer: &str, reader: &str, value: Value) -> Result<Vec<Scalar>, (ErrorClass, String)> {
    let text = format!(r#"{{"type":"record","name":"R","namespace":"t","fields":[{writer}]}}"#);
    let schema = Schema::parse_str(&text).unwrap();
    let datum = GenericDatumWriter::builder(&schema).build().unwrap().write_value_to_vec(value).unwrap();
    let mut decoder = decoder_of(reader);
    decoder.add_writer_schema(1, &text).unwrap();
    one(&mut decoder, frame(&datum))
}

fn frame(datum: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 0, 1][..], datum].concat()
}

fn record(fields: &[(&str, Value)]) -> Value {
    Value::Record(fields.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect())
}

fn promoted(writer: &str, reader: &str, value: Value) -> Result<Scalar, (ErrorClass, String)> {
    let field = |kind: &str| format!("{{\"name\":\"f\",\"type\":{kind}}}");
    resolved(&field(writer), &field(reader), record(&[("f", value)])).map(|mut row| row.remove(0))
}

const TIME: &str = r#"{"type":"long","logicalType":"timestamp-millis"}"#;

#[test]
fn numbers_are_promoted_but_never_narrowed() {
    assert_eq!(promoted("\"int\"", "\"long\"", Value::Int(-5)), Ok(Scalar::Integer(-5)));
    assert_eq!(promoted("\"int\"", "\"float\"", Value::Int(5)), Ok(Scalar::Number(5.0)));
    let big = (1 << 53) + (1 << 29) + 1;
    assert_eq!(promoted("\"long\"", "\"float\"", Value::Long(big)), Ok(Scalar::Number(f64::from(big as f32))));
    assert_eq!(promoted("\"long\"", "\"double\"", Value::Long(7)), Ok(Scalar::Number(7.0)));
    assert_eq!(promoted("\"float\"", "\"double\"", Value::Float(0.5)), Ok(Scalar::Number(0.5)));
    assert_eq!(promoted("\"bytes\"", "\"string\"", Value::Bytes(b"x".to_vec())), Ok(Scalar::Text("x".to_owned())));
    let long_to_int = contract("f: the writer's long cannot become an int");
    assert_eq!(promoted("\"long\"", "\"int\"", Value::Long(1)), long_to_int);
    let double_to_float = contract("f: the writer's double cannot become a float");
    assert_eq!(promoted("\"double\"", "\"float\"", Value::Double(1.0)), double_to_float);
    let string_to_double = contract("f: the writer's string cannot become a double");
    assert_eq!(promoted("\"string\"", "\"double\"", Value::String("1".into())), string_to_double);
}

#[test]
fn an_int_of_more_than_32_bits_is_undecodable_whatever_it_is_read_as() {
    let field = |kind: &str| format!("{{\"name\":\"f\",\"type\":{kind}}}");
    let read = |bytes: &[u8], reader: &str| {
        let text = format!(r#"{{"type":"record","name":"R","namespace":"t","fields":[{}]}}"#, field("\"int\""));
        let mut decoder = decoder_of(&field(reader));
        decoder.add_writer_schema(1, &text).unwrap();
        one(&mut decoder, frame(bytes))
    };
    for reader in ["\"int\"", "\"long\"", "\"double\""] {
        let refused = undecodable("f: an int of more than 32 bits");
        assert_eq!(read(&[0x80, 0x80, 0x80, 0x80, 0x10], reader), refused, "2^31 as {reader}");
        assert_eq!(read(&[0x82, 0x80, 0x80, 0x80, 0x20], reader), refused, "2^32 + 1 as {reader}");
    }
    assert_eq!(read(&[0xFE, 0xFF, 0xFF, 0xFF, 0x0F], "\"int\""), Ok(vec![Scalar::Integer(i64::from(i32::MAX))]));
}

#[test]
fn times_of_other_units_become_milliseconds() {
    let micros = r#"{"type":"long","logicalType":"timestamp-micros"}"#;
    let nanos = r#"{"type":"long","logicalType":"timestamp-nanos"}"#;
    let local = r#"{"type":"long","logicalType":"local-timestamp-micros"}"#;
    let day = r#"{"type":"int","logicalType":"date"}"#;
    let of_day = r#"{"type":"int","logicalType":"time-millis"}"#;
    assert_eq!(promoted(TIME, TIME, Value::TimestampMillis(5)), Ok(Scalar::Integer(5)));
    assert_eq!(promoted("\"long\"", TIME, Value::Long(5)), Ok(Scalar::Integer(5)));
    assert_eq!(promoted(micros, TIME, Value::TimestampMicros(-1)), Ok(Scalar::Integer(-1)));
    assert_eq!(promoted(nanos, TIME, Value::TimestampNanos(5_999_999)), Ok(Scalar::Integer(5)));
    assert_eq!(promoted(local, TIME, Value::LocalTimestampMicros(5_999)), Ok(Scalar::Integer(5)));
    assert_eq!(promoted(day, TIME, Value::Date(-2)), Ok(Scalar::Integer(-2 * 86_400_000)));
    assert_eq!(promoted(of_day, TIME, Value::TimeMillis(5)), Ok(Scalar::Integer(5)));
    let out = contract("f: a time outside the years 1 to 9999");
    assert_eq!(promoted(TIME, TIME, Value::TimestampMillis(i64::MAX)), out);
}

#[test]
fn a_string_is_read_from_whatever_is_bytes_or_text_on_the_wire() {
    let uuid = "00000000-0000-0000-0000-000000000001";
    let of_text = r#"{"type":"string","logicalType":"uuid"}"#;
    assert_eq!(promoted(of_text, "\"string\"", Value::Uuid(uuid.parse().unwrap())), Ok(Scalar::Text(uuid.to_owned())));
    assert_eq!(promoted("\"bytes\"", of_text, Value::Bytes(b"x".to_vec())), Ok(Scalar::Text("x".to_owned())));
    let undecodable = undecodable("f: a string that is not UTF-8");
    assert_eq!(promoted("\"bytes\"", "\"string\"", Value::Bytes(vec![0xFF])), undecodable);
    let decimal = r#"{"type":"bytes","logicalType":"decimal","precision":4,"scale":2}"#;
    let number = contract("f: the writer's decimal(4, 2) cannot become a string");
    assert_eq!(promoted(decimal, "\"string\"", Value::Decimal(Decimal::from(b"x"))), number);
}

#[test]
fn nan_and_infinity_are_against_the_contract() {
    for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(promoted("\"double\"", "\"double\"", Value::Double(value)), contract("f: NaN or infinity"));
    }
    assert_eq!(promoted("\"float\"", "\"double\"", Value::Float(f32::NAN)), contract("f: NaN or infinity"));
}

#[test]
fn a_union_of_the_writer_is_read_by_its_branch() {
    let union = r#"["string","null","int"]"#;
    let value = |branch, value| Value::Union(branch, Box::new(value));
    let optional = r#"["null","long"]"#;
    assert_eq!(promoted(union, optional, value(2, Value::Int(4))), Ok(Scalar::Integer(4)));
    assert_eq!(promoted(union, optional, value(1, Value::Null)), Ok(Scalar::Null));
    let wrong = contract("f: the writer's string cannot become a long");
    assert_eq!(promoted(union, optional, value(0, Value::String("x".into()))), wrong);
    let null = contract("f: the writer's null cannot become a long");
    assert_eq!(promoted(union, "\"long\"", value(1, Value::Null)), null);
}

#[test]
fn enum_symbols_are_matched_by_name() {
    let of = |symbols: &str, rest: &str| format!(r#"{{"type":"enum","name":"E","symbols":[{symbols}]{rest}}}"#);
    let writer = of(r#""c","b","a""#, "");
    let reader = of(r#""a","b""#, "");
    let with_default = of(r#""a","b""#, r#","default":"b""#);
    assert_eq!(promoted(&writer, &reader, Value::Enum(2, "a".into())), Ok(Scalar::Text("a".to_owned())));
    let unknown = contract("f: a symbol that the enum does not have");
    assert_eq!(promoted(&writer, &reader, Value::Enum(0, "c".into())), unknown);
    assert_eq!(promoted(&writer, &with_default, Value::Enum(0, "c".into())), Ok(Scalar::Text("b".to_owned())));
}

#[test]
fn fields_are_found_by_name_then_by_alias() {
    let reader = r#"{"name":"new","aliases":["old","older"],"type":"int"},{"name":"b","type":"int","default":3}"#;
    let writer = r#"{"name":"older","type":"int"}"#;
    let row = Ok(vec![Scalar::Integer(1), Scalar::Integer(3)]);
    assert_eq!(resolved(writer, reader, record(&[("older", Value::Int(1))])), row);
    let both = r#"{"name":"old","type":"string"},{"name":"new","type":"int"}"#;
    let value = record(&[("old", Value::String("x".into())), ("new", Value::Int(1))]);
    assert_eq!(resolved(both, reader, value), row);
    let none = r#"{"name":"b","type":"int"}"#;
    let missing = contract("new: missing and without default");
    assert_eq!(resolved(none, reader, record(&[("b", Value::Int(1))])), missing);
}

#[test]
fn a_record_and_a_scalar_are_no_match() {
    let inner = r#"{"name":"f","type":{"type":"record","name":"I","fields":[{"name":"x","type":"int"}]}}"#;
    let scalar = r#"{"name":"f","type":"string"}"#;
    let to_scalar = contract("f: the writer's record I cannot become a string");
    assert_eq!(resolved(inner, scalar, record(&[("f", record(&[("x", Value::Int(1))]))])), to_scalar);
    let to_record = contract("f: the writer's string cannot become a record");
    assert_eq!(resolved(scalar, inner, record(&[("f", Value::String("s".into()))])), to_record);
}

#[test]
fn a_recursive_field_is_skipped() {
    let list = r#"{"name":"l","type":{"type":"record","name":"L","fields":[{"name":"v","type":"long"},{"name":"next","type":["null","L"]}]}}"#;
    let writer = format!("{list},{{\"name\":\"b\",\"type\":\"int\"}}");
    let node = |next: Value, branch| record(&[("v", Value::Long(1)), ("next", Value::Union(branch, Box::new(next)))]);
    let value = record(&[("l", node(node(Value::Null, 0), 1)), ("b", Value::Int(9))]);
    assert_eq!(resolved(&writer, r#"{"name":"b","type":"int"}"#, value), Ok(vec![Scalar::Integer(9)]));
}

#[test]
fn what_is_skipped_is_bounded_in_depth_and_number() {
    let only_b = r#"{"name":"b","type":"int"}"#;
    let writer =
        |kind: &str| format!(r#"{{"type":"record","name":"R","fields":[{{"name":"x","type":{kind}}},{only_b}]}}"#);
    let refused = |kind: &str, datum: &[u8]| {
        let mut decoder = decoder_of(only_b);
        decoder.add_writer_schema(1, &writer(kind)).unwrap();
        one(&mut decoder, frame(datum))
    };
    let mut nulls = vec![0xFE, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01];
    nulls.extend([0, 2]);
    let too_many = undecodable("x: more items than its bytes can justify");
    assert_eq!(refused(r#"{"type":"array","items":"null"}"#, &nulls), too_many);
    let endless =
        |more: &str| format!(r#"{{"type":"record","name":"L","fields":[{{"name":"next","type":"L"}}{more}]}}"#);
    assert_eq!(refused(&endless(""), &[2]), too_many);
    let waited_for = endless(r#",{"name":"nothing","type":"null"}"#);
    assert_eq!(refused(&waited_for, &[2]), undecodable("x: values nested too deeply"));
    assert_eq!(
        refused(r#"{"type":"array","items":"int"}"#, &[1, 0xFE, 0xFF, 0x01]),
        undecodable("x: the bytes end early")
    );
    let min_count = [0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01, 0, 0, 2];
    assert_eq!(refused(r#"{"type":"array","items":"int"}"#, &min_count), Ok(vec![Scalar::Integer(1)]));
}

#[test]
fn a_value_of_any_depth_is_passed_over() {
    let only_b = r#"{"name":"b","type":"int"}"#;
    let with = |kind: &str| {
        let text = format!(r#"{{"type":"record","name":"R","fields":[{{"name":"x","type":{kind}}},{only_b}]}}"#);
        let mut decoder = decoder_of(only_b);
        decoder.add_writer_schema(1, &text).unwrap();
        decoder
    };
    const DEPTH: usize = 100_000;
    let list = |fields: &str| format!(r#"{{"type":"record","name":"L","fields":[{fields}]}}"#);
    let (next, value) = (r#"{"name":"next","type":["null","L"]}"#, r#"{"name":"v","type":"int"}"#);
    let ends = [0, 18];
    let at_the_end = [[4, 2].repeat(DEPTH), vec![4], ends.to_vec()].concat();
    let row = Ok(vec![Scalar::Integer(9)]);
    assert_eq!(one(&mut with(&list(&format!("{value},{next}"))), frame(&at_the_end)), row);
    let in_front = [vec![2; DEPTH], vec![0], vec![4; DEPTH + 1], vec![18]].concat();
    assert_eq!(one(&mut with(&list(&format!("{next},{value}"))), frame(&in_front)), row);
    let tree = list(r#"{"name":"of","type":{"type":"map","values":{"type":"array","items":"L"}}}"#);
    let down = [2, 2, b'k', 2].repeat(DEPTH);
    let nested = [down, vec![0], [0, 0].repeat(DEPTH), vec![18]].concat();
    assert_eq!(one(&mut with(&tree), frame(&nested)), row);
    assert_eq!(one(&mut with(&tree), frame(&nested[..nested.len() / 2])), undecodable("x: the bytes end early"));
}

#[test]
fn a_union_of_records_is_read_by_its_branch() {
    let of = |name: &str, kind: &str| {
        format!(r#"{{"type":"record","name":"{name}","namespace":"t","fields":[{{"name":"f","type":"{kind}"}}]}}"#)
    };
    let mut decoder = decoder_of(r#"{"name":"f","type":"long"}"#);
    let union = format!(r#"["null",{},{},{}]"#, of("R", "int"), of("S", "int"), of("u.R", "string"));
    decoder.add_writer_schema(1, &union).unwrap();
    assert_eq!(one(&mut decoder, frame(&[2, 14])), Ok(vec![Scalar::Integer(7)]));
    assert_eq!(one(&mut decoder, frame(&[0])), contract("the value: the writer's null cannot become a record"));
    let other = contract(r#"the value: the writer's record t.S is not the record t.R, which has no alias "t.S""#);
    assert_eq!(one(&mut decoder, frame(&[4, 14])), other);
    assert_eq!(one(&mut decoder, frame(&[6, 2, b'x'])), contract("f: the writer's string cannot become a long"));
    let no_branch = undecodable("the value: a union branch that the schema does not have");
    assert_eq!(one(&mut decoder, frame(&[8, 14])), no_branch);
    let error = decoder.add_writer_schema(2, r#"["null","string"]"#).unwrap_err().to_string();
    assert_eq!(error, "a value must be a record, this schema is union of null, string");
}

#[test]
fn a_type_of_another_name_is_refused_unless_an_alias_says_that_it_is_the_same() {
    let of = |name: &str| format!(r#"{{"type":"enum","name":"{name}","symbols":["a"]}}"#);
    let renamed = r#"{"type":"enum","name":"n.New","symbols":["a"],"aliases":["m.Old"]}"#;
    let read = |writer: &str, reader: &str| promoted(writer, reader, Value::Enum(0, "a".to_owned()));
    for (writer, reader) in [(of("n.E"), of("m.E")), (of("m.Old"), renamed.to_owned())] {
        assert_eq!(read(&writer, &reader), Ok(Scalar::Text("a".to_owned())), "{writer} to {reader}");
    }
    let why = contract(r#"f: the writer's enum n.Old is not the enum n.New, which has no alias "n.Old""#);
    assert_eq!(read(&of("n.Old"), renamed), why);
    let inner = |name: &str| {
        format!(r#"{{"name":"f","type":{{"type":"record","name":"{name}","fields":[{{"name":"x","type":"int"}}]}}}}"#)
    };
    let value = || record(&[("f", record(&[("x", Value::Int(1))]))]);
    assert_eq!(resolved(&inner("n.I"), &inner("m.I"), value()), Ok(vec![Scalar::Integer(1)]));
    let why = contract(r#"f: the writer's record t.J is not the record t.I, which has no alias "t.J""#);
    assert_eq!(resolved(&inner("J"), &inner("I"), value()), why);
}

#[test]
fn a_field_that_two_fields_of_the_stream_are_called_after_is_refused() {
    let writer = r#"{"name":"old","type":"int"}"#;
    let value = || record(&[("old", Value::Int(1))]);
    let by_alias =
        r#"{"name":"a","aliases":["old"],"type":"int"},{"name":"b","aliases":["old"],"type":"int","default":3}"#;
    let both = contract("old: it would be read into both a and b: an alias is one too many");
    assert_eq!(resolved(writer, by_alias, value()), both);
    let by_name = r#"{"name":"old","type":"int"},{"name":"b","aliases":["old"],"type":"int"}"#;
    let both = contract("old: it would be read into both old and b: an alias is one too many");
    assert_eq!(resolved(writer, by_name, value()), both);
}

#[test]
fn a_schema_may_have_any_number_of_fields_that_the_stream_lacks() {
    let mut decoder = decoder_of(r#"{"name":"f7","type":"int"}"#);
    let with = |count: usize| {
        let fields = (0..count).map(|n| format!(r#"{{"name":"f{n}","type":["null","int","long"]}}"#));
        format!(r#"{{"type":"record","name":"R","fields":[{}]}}"#, fields.collect::<Vec<_>>().join(","))
    };
    const COUNT: usize = 20_000;
    decoder.add_writer_schema(1, &with(COUNT)).unwrap();
    let datum = [[2, 14].repeat(8), vec![0; COUNT - 8]].concat();
    assert_eq!(one(&mut decoder, frame(&datum)), Ok(vec![Scalar::Integer(7)]));
}

#[test]
fn a_schema_that_takes_too_many_steps_is_refused() {
    let enums: Vec<String> =
        (0..1_000).map(|n| format!(r#"{{"type":"enum","name":"n{n}.E","symbols":["a"]}}"#)).collect();
    let names: Vec<String> = (0..1_000).map(|n| format!(r#""n{n}.E""#)).collect();
    let with = |count: usize| {
        let first = format!(r#"{{"name":"all","type":[{}]}}"#, enums.join(","));
        let fields = (0..count).map(|n| format!(r#"{{"name":"f{n}","type":[{}]}}"#, names.join(",")));
        let fields = std::iter::once(first).chain(fields).collect::<Vec<_>>().join(",");
        format!(r#"{{"type":"record","name":"R","fields":[{fields}]}}"#)
    };
    let fields = (0..80).map(|n| format!(r#"{{"name":"f{n}","type":"int"}}"#)).collect::<Vec<_>>().join(",");
    let mut decoder = decoder_of(&fields);
    assert_eq!(decoder.add_writer_schema(1, &with(40)), Ok(()));
    let error = decoder.add_writer_schema(2, &with(80)).unwrap_err().to_string();
    assert_eq!(error, "not an Avro schema: it takes more than 65536 steps to read");
}

#[test]
fn what_the_bytes_lack_or_have_too_much_is_undecodable() {
    let mut decoder = sensors();
    decoder.add_writer_schema(1, SENSORS).unwrap();
    let good = framed(decoder.schema(), 1, &good_row());
    for length in 1..good.len() {
        assert_eq!(one(&mut decoder, &good[..length]).unwrap_err().0, ErrorClass::Decode, "{length} bytes");
    }
    let longer = [good.as_slice(), &[0]].concat();
    assert_eq!(one(&mut decoder, longer), undecodable("1 bytes follow the record"));
    assert_eq!(
        one(&mut decoder, &good[..good.len() - 1]),
        undecodable("metadata.signal_strength: the bytes end early")
    );
    assert_eq!(one(&mut decoder, &good), Ok(good_row()));
}

#[test]
fn a_rule_is_broken_only_by_a_datum_that_can_be_read_to_its_end() {
    let text = r#"{"type":"record","name":"R","fields":[{"name":"d","type":"double"},{"name":"b","type":"boolean"}]}"#;
    let mut decoder = Decoder::new(Arc::new(StreamSchema::parse(text).unwrap()), DecodeLimits::default());
    decoder.add_writer_schema(1, text).unwrap();
    let nan = f64::NAN.to_le_bytes();
    assert_eq!(one(&mut decoder, frame(&[&nan[..], &[1]].concat())), contract("d: NaN or infinity"));
    let not_boolean = undecodable("b: a boolean that is neither 0 nor 1");
    assert_eq!(one(&mut decoder, frame(&[&nan[..], &[2]].concat())), not_boolean);
}
