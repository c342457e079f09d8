use arrow_array::{
    Array, RecordBatch,
    cast::AsArray,
    types::{Float64Type, Int64Type, TimestampMillisecondType},
};
use proptest::prelude::*;

use super::{
    Aggregate, AggregateFunction, ExprError, FUNCTIONS, MAX_EXPRESSION_DEPTH, ScalarExpr,
    fixtures::{Reading, batch, schema},
};
use crate::schema::{Kind, Scalar};

fn values(text: &str, batch: &RecordBatch) -> Vec<Scalar> {
    let expr = ScalarExpr::parse(text, &schema()).unwrap_or_else(|error| panic!("{text}: {error}"));
    let array = expr.eval(batch);
    assert_eq!(array.len(), batch.num_rows(), "{text}");
    let value = |row: usize| match expr.kind() {
        _ if array.is_null(row) => Scalar::Null,
        Kind::Boolean => Scalar::Boolean(array.as_boolean().value(row)),
        Kind::Long => Scalar::Integer(array.as_primitive::<Int64Type>().value(row)),
        Kind::Double => Scalar::Number(array.as_primitive::<Float64Type>().value(row)),
        Kind::String => Scalar::Text(array.as_string::<i32>().value(row).to_owned()),
        Kind::Timestamp => Scalar::Integer(array.as_primitive::<TimestampMillisecondType>().value(row)),
        kind => panic!("{text} has the kind {kind:?}"),
    };
    (0..array.len()).map(value).collect()
}

fn value(text: &str) -> Scalar {
    let with_nulls = Reading { level: None, ratio: None, note: None, total: None, ..Reading::default() };
    let mut all = values(text, &batch(&[Reading::default(), with_nulls]));
    all.swap_remove(0)
}

fn on_nulls(text: &str) -> Scalar {
    let with_nulls = Reading { level: None, ratio: None, note: None, total: None, ..Reading::default() };
    values(text, &batch(&[Reading::default(), with_nulls])).swap_remove(1)
}

fn error(text: &str) -> ExprError {
    ScalarExpr::parse(text, &schema()).expect_err(text)
}

const TRUE: Scalar = Scalar::Boolean(true);
const FALSE: Scalar = Scalar::Boolean(false);

fn text(value: &str) -> Scalar {
    Scalar::Text(value.to_owned())
}

#[test]
fn columns_of_every_kind_are_read() {
    assert_eq!(value("sensor_id"), text("s1"));
    assert_eq!(value("VALUE"), Scalar::Number(20.5));
    assert_eq!(value("level"), Scalar::Integer(7));
    assert_eq!(value("metadata.level"), Scalar::Integer(7));
    assert_eq!(value("ratio"), Scalar::Number(0.5));
    assert_eq!(value("timestamp"), Scalar::Integer(1_000));
    assert_eq!(value("\"total\""), Scalar::Integer(40));
    assert_eq!(on_nulls("level"), Scalar::Null);
}

#[test]
fn numbers_are_computed_as_integers_until_a_float_joins() {
    assert_eq!(value("level + 1"), Scalar::Integer(8));
    assert_eq!(value("level / 2"), Scalar::Integer(3));
    assert_eq!(value("level / 2.0"), Scalar::Number(3.5));
    assert_eq!(value("total % level - 2 * 3"), Scalar::Integer(-1));
    assert_eq!(value("-value + ratio"), Scalar::Number(-20.0));
    assert_eq!(value("2 * 3 + 1"), Scalar::Integer(7));
    assert_eq!(on_nulls("level + 1"), Scalar::Null);
}

#[test]
fn a_result_without_a_value_is_null_for_that_record_alone() {
    let batch = batch(&[
        Reading { level: Some(0), total: Some(i64::MAX), value: 0.0, ..Reading::default() },
        Reading { level: Some(2), total: Some(6), value: 2.0, ..Reading::default() },
    ]);
    let after_null = |value| vec![Scalar::Null, value];
    assert_eq!(values("total / level", &batch), after_null(Scalar::Integer(3)));
    assert_eq!(values("total % level", &batch), after_null(Scalar::Integer(0)));
    assert_eq!(values("total + 1", &batch), after_null(Scalar::Integer(7)));
    assert_eq!(values("1 / value", &batch), after_null(Scalar::Number(0.5)));
    assert_eq!(values("ln(value) * 0", &batch), after_null(Scalar::Number(0.0)));
    assert_eq!(value("power(10, 400)"), Scalar::Null);
    assert_eq!(value("sqrt(-1)"), Scalar::Null);
    assert_eq!(value("1 / 0"), Scalar::Null);
}

#[test]
fn comparisons_work_on_every_type_and_are_null_with_null() {
    for (expression, expected) in [
        ("value > 20", TRUE),
        ("20 > value", FALSE),
        ("level <= 7", TRUE),
        ("level <> 7", FALSE),
        ("sensor_id >= 's1'", TRUE),
        ("anomaly = false", TRUE),
        ("timestamp < TIMESTAMP '1970-01-01 00:00:02'", TRUE),
        ("timestamp = '1970-01-01T00:00:01Z'", TRUE),
        ("timestamp > DATE '1970-01-02'", FALSE),
        ("0.0 = -0.0", TRUE),
        ("value BETWEEN 20 AND 20.5", TRUE),
        ("level NOT BETWEEN 1 AND 6", TRUE),
        ("level IN (1, 7)", TRUE),
        ("level NOT IN (1, 7.0)", FALSE),
        ("sensor_type IN ('humidity')", FALSE),
    ] {
        assert_eq!(value(expression), expected, "{expression}");
    }
    assert_eq!(on_nulls("level > 1"), Scalar::Null);
    assert_eq!(on_nulls("level IN (1, 7)"), Scalar::Null);
    assert_eq!(on_nulls("level BETWEEN 1 AND 2"), Scalar::Null);
}

#[test]
fn a_comparison_with_null_is_refused_with_what_to_write_instead() {
    for (expression, way_out) in [
        ("value > 1 AND level = NULL", "write level IS NULL"),
        ("null <> note", "write note IS NOT NULL"),
        ("level != (Null)", "write level IS NOT NULL"),
        ("level >= NULL", "write level IS NULL or level IS NOT NULL"),
        ("level IN (1, NULL)", "leave it out of the list, and test level IS NULL beside it"),
        ("level NOT IN (NULL)", "leave it out of the list, and test level IS NULL beside it"),
        ("level BETWEEN 1 AND NULL", "give both bounds, or compare level with one"),
        ("note NOT LIKE NULL", "write note IS NULL"),
        ("CASE level WHEN NULL THEN 1 ELSE 0 END = 1", "write CASE WHEN level IS NULL THEN …"),
    ] {
        let refused = ScalarExpr::parse_condition(expression, &schema()).unwrap_err();
        let at = expression.to_lowercase().find("null").unwrap() + 1;
        let message = format!("a comparison with NULL is never true: {way_out}");
        assert_eq!((refused.message, refused.column), (message, at), "{expression}");
    }
    let aggregate = Aggregate::parse("sum(CASE WHEN level = NULL THEN 1 ELSE 0 END)", &schema()).unwrap_err();
    assert!(aggregate.message.ends_with("write level IS NULL"), "{aggregate}");
}

#[test]
fn negative_zero_is_zero() {
    let batch = batch(&[Reading { value: -0.0, ..Reading::default() }]);
    assert_eq!(values("value = 0", &batch), [TRUE]);
    assert_eq!(values("value < 0", &batch), [FALSE]);
}

#[test]
fn logic_has_three_values() {
    let names = ["true", "false", "null"];
    let scalars = [TRUE, FALSE, Scalar::Null];
    let and = [[0, 1, 2], [1, 1, 1], [2, 1, 2]];
    let or = [[0, 0, 0], [0, 1, 2], [0, 2, 2]];
    for (row, left) in names.iter().enumerate() {
        for (column, right) in names.iter().enumerate() {
            assert_eq!(value(&format!("{left} AND {right}")), scalars[and[row][column]], "{left} AND {right}");
            assert_eq!(value(&format!("{left} OR {right}")), scalars[or[row][column]], "{left} OR {right}");
        }
        assert_eq!(value(&format!("NOT {left}")), [FALSE, TRUE, Scalar::Null][row], "NOT {left}");
        assert_eq!(value(&format!("({left}) IS TRUE")), [TRUE, FALSE, FALSE][row], "{left} IS TRUE");
        assert_eq!(value(&format!("({left}) IS NOT FALSE")), [TRUE, FALSE, TRUE][row], "{left} IS NOT FALSE");
    }
    assert_eq!(on_nulls("level > 1 OR value > 1"), TRUE);
    assert_eq!(on_nulls("level > 1 AND value > 1 AND anomaly"), FALSE);
    assert_eq!(on_nulls("level IS NULL"), TRUE);
    assert_eq!(on_nulls("level IS NOT NULL"), FALSE);
}

#[test]
fn a_filter_takes_null_as_false() {
    let with_nulls = Reading { level: None, ..Reading::default() };
    let batch = batch(&[Reading::default(), with_nulls]);
    let filter = ScalarExpr::parse_condition("level > 1", &schema()).unwrap().eval_filter(&batch);
    assert_eq!((filter.null_count(), filter.value(0), filter.value(1)), (0, true, false));
}

#[test]
fn texts_are_matched_and_changed() {
    for (expression, expected) in [
        ("note LIKE 'Ok%'", TRUE),
        ("note LIKE 'ok%'", FALSE),
        ("note ILIKE 'ok%'", TRUE),
        ("note NOT LIKE '%100\\%'", FALSE),
        ("note LIKE 'Ok\\_1__\\%'", TRUE),
        ("lower(note)", text("ok_100%")),
        ("upper('straße')", text("STRASSE")),
        ("length('häß')", Scalar::Integer(3)),
    ] {
        assert_eq!(value(expression), expected, "{expression}");
    }
    assert_eq!(on_nulls("note LIKE 'x'"), Scalar::Null);
}

#[test]
fn case_and_its_relatives_choose_values() {
    for (expression, here, with_nulls) in [
        ("CASE WHEN level > 5 THEN 'high' WHEN level > 1 THEN 'low' END", text("high"), Scalar::Null),
        ("CASE level WHEN 7 THEN 1 ELSE 2.5 END", Scalar::Number(1.0), Scalar::Number(2.5)),
        ("CASE WHEN true THEN level ELSE 0 END", Scalar::Integer(7), Scalar::Null),
        ("COALESCE(level, total, 3)", Scalar::Integer(7), Scalar::Integer(3)),
        ("COALESCE(note, sensor_id)", text("Ok_100%"), text("s1")),
        ("NULLIF(value, 20.5)", Scalar::Null, Scalar::Null),
        ("NULLIF(level, 8)", Scalar::Integer(7), Scalar::Null),
        ("LEAST(level, value, 3)", Scalar::Number(3.0), Scalar::Number(3.0)),
        ("GREATEST(level, 3)", Scalar::Integer(7), Scalar::Integer(3)),
        ("GREATEST(level, total)", Scalar::Integer(40), Scalar::Null),
    ] {
        assert_eq!(value(expression), here, "{expression}");
        assert_eq!(on_nulls(expression), with_nulls, "{expression}");
    }
}

#[test]
fn number_and_time_functions_give_what_they_say() {
    for (expression, expected) in [
        ("abs(-level)", Scalar::Integer(7)),
        ("abs(-0.5)", Scalar::Number(0.5)),
        ("round(value)", Scalar::Number(21.0)),
        ("round(2.345, 1)", Scalar::Number(2.3)),
        ("round(level)", Scalar::Integer(7)),
        ("floor(value)", Scalar::Number(20.0)),
        ("ceil(value)", Scalar::Number(21.0)),
        ("sqrt(9)", Scalar::Number(3.0)),
        ("power(2, 10)", Scalar::Number(1024.0)),
        ("exp(0)", Scalar::Number(1.0)),
        ("hour(TIMESTAMP '2026-02-03T04:05:06Z')", Scalar::Integer(4)),
        ("EXTRACT(MINUTE FROM TIMESTAMP '2026-02-03T04:05:06Z')", Scalar::Integer(5)),
        ("second(TIMESTAMP '1969-12-31T23:59:58Z')", Scalar::Integer(58)),
        ("dow(TIMESTAMP '2026-02-01T00:00:00Z')", Scalar::Integer(0)),
        ("dow(DATE '1969-12-31')", Scalar::Integer(3)),
        ("epoch_ms(timestamp)", Scalar::Integer(1_000)),
    ] {
        assert_eq!(value(expression), expected, "{expression}");
    }
}

#[test]
fn every_documented_function_is_there() {
    for (usage, _) in FUNCTIONS {
        let name = usage.split('(').next().expect("a usage has a name");
        let message = error(&format!("{name}(no_such_field, 1)")).message;
        assert!(!message.contains("unknown function"), "{usage}: {message}");
    }
}

#[test]
fn an_error_names_the_place_and_what_was_meant() {
    for (expression, place, message) in [
        ("value > 1 AND valu > 2", "valu", "unknown field 'valu', did you mean 'value'?"),
        ("sensor_type = 'temprature'", "'temprature'", "did you mean 'temperature'?"),
        ("sensor_type IN ('humidity', 'wind')", "'wind'", "'wind' is no symbol of 'sensor_type'"),
        ("sqr(value) > 1", "sqr(value", "unknown function 'sqr', did you mean 'sqrt'?"),
        ("value + sensor_id", "sensor_id", "a number is expected here, but this is a text"),
        ("value > 'high'", "'high'", "cannot compare a number and a text"),
        ("timestamp > 'soon'", "'soon'", "no timestamp"),
        ("avg(value) > 1", "avg(value", "aggregate"),
        ("(SELECT 1) > 2", "SELECT 1", "not supported"),
    ] {
        let error = error(expression);
        assert!(error.message.contains(message), "{expression}: {}", error.message);
        assert!(expression[error.span.clone()].starts_with(place), "{expression}: {:?}", &expression[error.span]);
    }
    let unknown = error("value > 1\n  AND ü = 2");
    assert_eq!((unknown.line, unknown.column), (2, 7));
}

#[test]
fn what_is_no_expression_is_refused_with_a_place() {
    for expression in ["", "  ", "value >", "value > 1 extra stuff", "value > 'open", "(value", "1 +* 2", "NULL", "*"] {
        let error = error(expression);
        assert!(error.span.end <= expression.len(), "{expression}: {error:?}");
    }
    assert_eq!(error("value > 1 extra").message, "'extra' is not expected here");
}

#[test]
fn a_condition_must_be_boolean() {
    let error = ScalarExpr::parse_condition("value + 1", &schema()).expect_err("a number");
    assert_eq!(error.message, "a condition is true or false, but this is a number");
}

#[test]
fn nesting_is_bounded() {
    let deep = format!("{}value{} > 1", "(".repeat(1_000), ")".repeat(1_000));
    assert!(error(&deep).message.contains("nested deeper"));
}

#[test]
fn a_sum_of_many_terms_is_refused() {
    let sums = format!("value{}", " + 1".repeat(1_000));
    assert!(error(&sums).message.contains("nested deeper"));
}

#[test]
fn length_is_bounded() {
    let long = format!("value{}", " + 1".repeat(3_000));
    assert!(error(&long).message.contains("longer than"));
}

#[test]
fn a_long_chain_of_conditions_is_not_deep() {
    let chain = format!("value = 0{}", " OR value = 20.5".repeat(400));
    assert_eq!(value(&chain), TRUE);
}

#[test]
fn nested_calls_are_planned_once_each() {
    let nested = (0..MAX_EXPRESSION_DEPTH - 1).fold("level".to_owned(), |inner, _| format!("coalesce({inner}, 1)"));
    assert_eq!(value(&nested), Scalar::Integer(7));
    let cases = (0..MAX_EXPRESSION_DEPTH - 1)
        .fold("level".to_owned(), |inner, _| format!("CASE WHEN (true) THEN {inner} ELSE 1 END"));
    assert_eq!(value(&cases), Scalar::Integer(7));
}

#[test]
fn an_aggregate_is_one_call_with_a_typed_argument() {
    let aggregate = |text: &str| Aggregate::parse(text, &schema()).unwrap_or_else(|error| panic!("{text}: {error}"));
    assert_eq!(aggregate("count(*)").argument(), None);
    assert_eq!(*aggregate("sum(level)").kind(), Kind::Long);
    assert_eq!(*aggregate("sum(value)").kind(), Kind::Double);
    assert_eq!(*aggregate("avg(level)").argument().expect("an argument").kind(), Kind::Double);
    assert_eq!(*aggregate("last(sensor_id)").kind(), Kind::String);
    assert_eq!(aggregate("STDDEV(value * 2)").function(), AggregateFunction::StdDev);
    let mergeable: Vec<String> = aggregate("stddev(value)").mergeable("s").into_iter().map(|(name, _)| name).collect();
    assert_eq!(mergeable, ["s_count", "s_mean", "s_m2"]);
    for (text, message) in [
        ("value", "an aggregate such as avg(value) is expected"),
        ("agv(value)", "did you mean 'avg'?"),
        ("avg(sensor_id)", "'avg' takes a number, not a text"),
        ("min(anomaly)", "'min' takes"),
        ("avg(value, 1)", "1 argument expected, 2 given"),
        ("avg(*)", "plain expressions"),
        ("count(DISTINCT value)", "plain expressions"),
        ("avg(valu)", "did you mean 'value'?"),
        ("sum(avg(value))", "is an aggregate"),
    ] {
        let error = Aggregate::parse(text, &schema()).expect_err(text);
        assert!(error.message.contains(message), "{text}: {}", error.message);
    }
}

#[test]
fn a_filter_of_an_aggregate_nulls_what_it_removes() {
    let aggregate = Aggregate::parse("count(*) FILTER (WHERE level > 5)", &schema()).unwrap();
    let with_nulls = Reading { level: None, ..Reading::default() };
    let batch = batch(&[Reading::default(), with_nulls]);
    let counted = aggregate.argument().expect("the filter is the argument").eval(&batch);
    assert_eq!((counted.is_valid(0), counted.is_valid(1)), (true, false));
}

proptest! {
    #[test]
    fn no_text_makes_the_parser_panic(text in "[a-z0-9 '\"()*+,.<>=%/-]{0,60}|\\PC{0,40}") {
        if let Err(error) = ScalarExpr::parse(&text, &schema()) {
            prop_assert!(text.get(error.span).is_some());
        }
        let _ = Aggregate::parse(&text, &schema());
    }

    #[test]
    fn words_of_the_language_in_any_order_never_panic(
        words in prop::collection::vec(prop::sample::select(vec![
            "value", "level", "note", "timestamp", "anomaly", "AND", "OR", "NOT", "(", ")", "+", "-", "*", "/", "%", "=",
            "<", "IN", "BETWEEN", "LIKE", "IS", "NULL", "CASE", "WHEN", "THEN", "ELSE", "END", "1", "2.5", "'x'",
            "coalesce(", "round(", "least(", ",", "true", "TIMESTAMP '2026-01-01'",
        ]), 1..14),
    ) {
        let text = words.join(" ");
        if let Ok(expr) = ScalarExpr::parse(&text, &schema()) {
            let rows = [Reading::default(), Reading { level: None, note: None, ..Reading::default() }];
            prop_assert_eq!(expr.eval(&batch(&rows)).len(), 2);
        }
    }

    #[test]
    fn integer_arithmetic_equals_checked_arithmetic(a in any::<i64>(), b in prop::sample::select(vec![i64::MIN, -1, 0, 1, 2, i64::MAX])) {
        let batch = batch(&[Reading { total: Some(a), ..Reading::default() }]);
        let literal = if b == i64::MIN { "(-9223372036854775807 - 1)".to_owned() } else { format!("({b})") };
        let scalar = |value: Option<i64>| vec![value.map_or(Scalar::Null, Scalar::Integer)];
        prop_assert_eq!(values(&format!("total + {literal}"), &batch), scalar(a.checked_add(b)));
        prop_assert_eq!(values(&format!("total - {literal}"), &batch), scalar(a.checked_sub(b)));
        prop_assert_eq!(values(&format!("total * {literal}"), &batch), scalar(a.checked_mul(b)));
        prop_assert_eq!(values(&format!("total / {literal}"), &batch), scalar(a.checked_div(b)));
        prop_assert_eq!(values(&format!("total % {literal}"), &batch), scalar(a.checked_rem(b)));
    }
}

#[test]
fn the_definition_is_the_same_however_an_expression_is_written_and_differs_where_it_computes_something_else() {
    let scalar = |text: &str| ScalarExpr::parse(text, &schema()).unwrap().definition(&schema());
    let same = [
        ("value>1", "VALUE  > 1.0"),
        ("(value) + 1", "value + 1"),
        ("level = 1 and not anomaly", "LEVEL = 1 AND (NOT anomaly)"),
        ("pow(value, 2)", "POWER(value,2.0)"),
        ("note in ('a', 'b')", "note IN ( 'a','b' )"),
    ];
    for (one, other) in same {
        assert_eq!(scalar(one), scalar(other));
    }
    let all = [
        "value > 1",
        "value >= 1",
        "value < 1",
        "value <= 1",
        "value = 1",
        "value <> 1",
        "value + 1",
        "value - 1",
        "value * 1",
        "value / 1",
        "value % 1",
        "level + 1",
        "1 - value",
        "-value",
        "abs(value)",
        "note",
        "note like 'a'",
        "note ilike 'a'",
        "note = 'a'",
        "note = 'b'",
        "note is null",
        "note is not null",
        "value between 1 and 2",
        "value between 1 and 3",
        "case when anomaly then 1 end",
        "case level when 1 then 1 end",
        "coalesce(level, 1)",
        "level in (1, 2)",
        "anomaly or level = 1",
        "anomaly and level = 1",
        "not anomaly",
        "hour(timestamp)",
    ];
    let definitions: Vec<String> = all.iter().map(|text| scalar(text)).collect();
    let distinct: std::collections::BTreeSet<&String> = definitions.iter().collect();
    assert_eq!(distinct.len(), definitions.len(), "{definitions:#?}");
    let aggregate = |text: &str| Aggregate::parse(text, &schema()).unwrap().definition(&schema());
    assert_eq!(aggregate("AVG( \"value\" )"), aggregate("avg(value)"));
    assert_eq!(aggregate("stddev_samp(value)"), aggregate("STDDEV(value)"));
    let differ =
        ["avg(value)", "sum(value)", "count(value)", "count(*)", "avg(value) filter (where anomaly)", "avg(level)"];
    let distinct: std::collections::BTreeSet<String> = differ.iter().map(|text| aggregate(text)).collect();
    assert_eq!(distinct.len(), differ.len(), "{distinct:?}");
}
