use proptest::prelude::*;

use super::*;

const PAIR: &str = r#"{"name":"a","type":"int"},{"name":"b","type":"string"}"#;

fn leaf(kind: &str, json: &str) -> Result<Scalar, (ErrorClass, String)> {
    let mut decoder = decoder_of(&format!("{{\"name\":\"f\",\"type\":{kind}}}"));
    one(&mut decoder, format!("{{\"f\":{json}}}")).map(|mut row| row.remove(0))
}

#[test]
fn a_reading_becomes_a_row() {
    assert_eq!(one(&mut sensors(), GOOD), Ok(good_row()));
}

#[test]
fn keys_may_come_in_any_order_and_change_it() {
    let mut decoder = decoder_of(PAIR);
    let expected = Ok(vec![Scalar::Integer(1), Scalar::Text("x".to_owned())]);
    for text in [r#"{"b":"x","a":1}"#, r#"{"b":"x","a":1}"#, r#"{"a":1,"b":"x"}"#, r#"{"c":[],"a":1,"d":{},"b":"x"}"#] {
        assert_eq!(one(&mut decoder, text), expected, "{text}");
    }
}

#[test]
fn integers_are_taken_from_integers_alone() {
    assert_eq!(leaf("\"int\"", "2147483647"), Ok(Scalar::Integer(2_147_483_647)));
    assert_eq!(leaf("\"long\"", "-9223372036854775808"), Ok(Scalar::Integer(i64::MIN)));
    for (kind, json) in [
        ("\"int\"", "2147483648"),
        ("\"int\"", "-2147483649"),
        ("\"long\"", "9223372036854775808"),
        ("\"long\"", "99999999999999999999999"),
        ("\"long\"", "1e999"),
    ] {
        assert_eq!(leaf(kind, json), contract("f: a number that its type cannot hold"), "{json}");
    }
    for json in ["1.0", "1e3", "0.5"] {
        let expected = contract("f: found a number that is not written as an integer, expected an int");
        assert_eq!(leaf("\"int\"", json), expected);
    }
}

#[test]
fn floats_are_taken_from_any_finite_number() {
    assert_eq!(leaf("\"double\"", "20"), Ok(Scalar::Number(20.0)));
    assert_eq!(leaf("\"double\"", "-1.5e-3"), Ok(Scalar::Number(-0.0015)));
    assert_eq!(leaf("\"float\"", "0.1"), Ok(Scalar::Number(f64::from(0.1_f32))));
    assert_eq!(leaf("\"double\"", "18446744073709551616"), Ok(Scalar::Number(18_446_744_073_709_551_616.0)));
    for (kind, json) in [("\"double\"", "1e999"), ("\"double\"", "-1e999"), ("\"float\"", "1e39")] {
        assert_eq!(leaf(kind, json), contract("f: a number that its type cannot hold"));
    }
    assert_eq!(leaf("\"double\"", "NaN").unwrap_err().0, ErrorClass::Decode);
    assert_eq!(leaf("\"double\"", "Infinity").unwrap_err().0, ErrorClass::Decode);
}

#[test]
fn no_type_is_taken_for_another() {
    let symbols = r#"{"type":"enum","name":"E","symbols":["x","y"]}"#;
    let time = r#"{"type":"long","logicalType":"timestamp-millis"}"#;
    for (kind, json, reason) in [
        ("\"int\"", "\"12\"", "f: found a string, expected an int"),
        ("\"double\"", "\"1.5\"", "f: found a string, expected a double"),
        ("\"boolean\"", "\"true\"", "f: found a string, expected a boolean"),
        ("\"boolean\"", "1", "f: found a number, expected a boolean"),
        ("\"string\"", "1.5", "f: found a number, expected a string"),
        ("\"string\"", "true", "f: found a boolean, expected a string"),
        ("\"string\"", "null", "f: found null, expected a string"),
        ("\"string\"", "[\"a\"]", "f: found an array, expected a string"),
        ("\"float\"", "{\"a\":1}", "f: found an object, expected a float"),
        (symbols, "\"z\"", "f: a symbol that the enum does not have"),
        (symbols, "0", "f: found a number, expected an enum symbol"),
        (time, "1.5", "f: found a number that is not written as an integer, expected a time"),
        (time, "true", "f: found a boolean, expected a time"),
        (time, "\"yesterday\"", "f: a text that is no RFC 3339 time"),
        (time, "253402300800000", "f: a time outside the years 1 to 9999"),
    ] {
        assert_eq!(leaf(kind, json), contract(reason));
    }
    assert_eq!(leaf(symbols, "\"y\""), Ok(Scalar::Text("y".to_owned())));
    assert_eq!(leaf(time, "1700000000000"), Ok(Scalar::Integer(1_700_000_000_000)));
    assert_eq!(leaf(time, "\"1970-01-01T00:00:01+00:00\""), Ok(Scalar::Integer(1000)));
}

#[test]
fn escapes_are_undone() {
    let expected = "é\"\n\u{1F321}";
    assert_eq!(leaf("\"string\"", r#""\u00e9\"\n\ud83c\udf21""#), Ok(Scalar::Text(expected.to_owned())));
    let symbols = r#"{"type":"enum","name":"E","symbols":["x","y"]}"#;
    assert_eq!(leaf(symbols, r#""\u0079""#), Ok(Scalar::Text("y".to_owned())));
}

#[test]
fn a_missing_field_takes_its_default_or_is_a_fault() {
    let fields = r#"{"name":"a","type":"int"},{"name":"n","type":["null","double"],"default":null},
        {"name":"m","type":{"type":"record","name":"M","fields":[{"name":"s","type":"string","default":"none"}]}}"#;
    let expected = Ok(vec![Scalar::Integer(1), Scalar::Null, Scalar::Text("none".to_owned())]);
    assert_eq!(one(&mut decoder_of(fields), r#"{"a":1,"m":{}}"#), expected);
    assert_eq!(one(&mut decoder_of(fields), r#"{"a":1,"n":null}"#), expected);
    assert_eq!(one(&mut decoder_of(fields), "{}"), contract("a: missing and without default"));
    let nested = r#"{"sensor_id":"s","sensor_type":"humidity","value":1,"timestamp":0,"location":"z","metadata":{"battery_level":1}}"#;
    assert_eq!(one(&mut sensors(), nested), contract("metadata.signal_strength: missing and without default"));
}

#[test]
fn a_key_twice_is_a_fault_at_every_level() {
    let a = undecodable("a: twice in the same object");
    assert_eq!(one(&mut decoder_of(PAIR), r#"{"a":1,"b":"x","a":1}"#), a);
    let fields = r#"{"name":"m","type":{"type":"record","name":"M","fields":[{"name":"s","type":"int","default":1}]}}"#;
    let mut decoder = decoder_of(fields);
    assert_eq!(one(&mut decoder, r#"{"m":{},"m":{}}"#), undecodable("m: twice in the same object"));
    assert_eq!(one(&mut decoder, r#"{"m":{}}"#), Ok(vec![Scalar::Integer(1)]));
}

#[test]
fn what_is_no_object_is_refused() {
    for (text, found) in [
        ("[1]", "an array"),
        ("\"x\"", "a string"),
        ("5", "a number"),
        ("-5", "a number"),
        ("1.5", "a number"),
        ("null", "null"),
        ("true", "a boolean"),
    ] {
        let expected = contract(&format!("the value: found {found}, expected an object"));
        assert_eq!(one(&mut decoder_of(PAIR), text), expected);
    }
    let flat = GOOD.replace(r#"{"battery_level":87,"signal_strength":-41}"#, "5");
    assert_eq!(one(&mut sensors(), flat), contract("metadata: found a number, expected an object"));
}

#[test]
fn a_text_that_is_no_json_is_undecodable_even_if_it_breaks_a_rule_first() {
    for text in [
        "",
        " ",
        "{",
        r#"{"a":"x","b":"#,
        r#"{"a":1.5,"b":"x"} x"#,
        r#"{"a":1,"b":"x"}{"a":1,"b":"x"}"#,
        r#"{"a":1 "b":"x"}"#,
    ] {
        let (class, reason) = one(&mut decoder_of(PAIR), text).unwrap_err();
        assert_eq!(class, ErrorClass::Decode, "{text}");
        assert!(reason.starts_with("not JSON: "), "{reason}");
    }
    assert_eq!(one(&mut decoder_of(PAIR), b"{\"a\":1,\"b\":\"\xFF\"}"), undecodable("not UTF-8 from byte 12 on"));
    let deep = format!("{{\"x\":{}", "[".repeat(100_000));
    assert_eq!(one(&mut decoder_of(PAIR), deep).unwrap_err().0, ErrorClass::Decode);
}

#[test]
fn unknown_fields_are_counted_in_good_records_alone() {
    let good = r#"{"x":{"a":"deep"},"a":1,"y":1e999,"b":"s"}"#;
    let bad = r#"{"x":1,"a":1}"#;
    let decoded = all(&mut decoder_of(PAIR), &[good, bad, good]);
    assert_eq!((decoded.rows.as_slice(), decoded.unknown_fields), (&[0, 2][..], 4));
}

#[test]
fn unknown_fields_are_named_by_their_paths_each_once_and_in_bounds() {
    let schema = decoder_of(
        r#"{"name":"a","type":"int"},{"name":"r","type":{"type":"record","name":"Inner","fields":[{"name":"b","type":"int"}]}}"#,
    )
    .schema()
    .clone();
    let named = |values: &[&str]| {
        let mut names = std::collections::BTreeSet::new();
        values.iter().for_each(|value| ignored_fields(&schema, value.as_bytes(), &mut names));
        names.into_iter().collect::<Vec<_>>()
    };
    let first = r#"{"z":1e999,"a":1,"r":{"b":1,"a":2,"c":{"d":1}}}"#;
    assert_eq!(named(&[first, r#"{"a":1,"b":2,"r":{"b":1,"a":3}}"#]), ["b", "r.a", "r.c", "z"]);
    assert!(named(&[r#"{"a":1,"r":{"b":1}}"#, "7", "{", r#"{"r":7}"#]).is_empty());
    let many: Vec<String> = (0..500).map(|n| format!("\"n{n}\":0")).collect();
    assert_eq!(named(&[&format!("{{{}}}", many.join(","))]).len(), MAX_IGNORED_NAMES);
}

#[test]
fn a_reason_holds_nothing_of_the_payload() {
    for text in [r#"{"a":"secret"}"#, r#"{"a":1,"b":"secret"#, r#"{"a":secret}"#, r#"{"secret":1}"#] {
        let (_, reason) = one(&mut decoder_of(PAIR), text).unwrap_err();
        assert!(!reason.contains("secret"), "{reason}");
    }
}

proptest! {
    /// serde_json is the oracle of what is JSON; the rules are simple enough to be said again here.
    #[test]
    fn any_text_is_taken_or_refused_as_serde_json_and_the_rules_say(
        text in r#"(\{"a":(1|-7|1\.5|"1"|null)?,?("b":("x"|3)?)?\}? ?){1,2}|.{0,30}"#,
    ) {
        let tree: Result<serde_json::Value, _> = serde_json::from_str(&text);
        let got = one(&mut decoder_of(PAIR).with_format(Format::Json), &text);
        match tree {
            Err(_) => prop_assert_eq!(got.unwrap_err().0, ErrorClass::Decode),
            Ok(tree) => {
                let row = tree.get("a").and_then(serde_json::Value::as_i64).zip(tree.get("b").and_then(|b| b.as_str()));
                match row {
                    Some((a, b)) => prop_assert_eq!(got, Ok(vec![Scalar::Integer(a), Scalar::Text(b.to_owned())])),
                    None => prop_assert_eq!(got.unwrap_err().0, ErrorClass::Contract),
                }
            }
        }
    }

    #[test]
    fn any_bytes_are_taken_or_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let mut decoder = sensors();
        decoder.add_writer_schema(0, SENSORS).unwrap();
        let framed = [&[0, 0, 0, 0, 0][..], &bytes].concat();
        let decoded = all(&mut decoder, &[bytes.as_slice(), GOOD.as_bytes(), &framed]);
        prop_assert_eq!(decoded.rows.len() + decoded.rejected.len(), 3);
        prop_assert!(decoded.rows.contains(&1));
    }
}
