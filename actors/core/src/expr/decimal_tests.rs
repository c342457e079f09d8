//! Expressions over decimals: exact, with SQL's types, and null where a result has more than 38 digits.

use std::sync::Arc;

use arrow_array::{Array, Decimal128Array, Float64Array, Int64Array, RecordBatch};

use super::{Aggregate, ScalarExpr};
use crate::{
    encode::scalar_at,
    schema::{Decimal, Kind, Scalar, StreamSchema},
};

const MOST: i128 = 99_999_999_999_999_999_999_999_999_999_999_999_999;

fn schema() -> StreamSchema {
    let decimal = |name: &str, precision: u8, scale: u8| {
        format!(
            r#"{{"name":"{name}","type":["null",{{"type":"bytes","logicalType":"decimal","precision":{precision},"scale":{scale}}}]}}"#
        )
    };
    let fields = [decimal("price", 10, 2), decimal("rate", 8, 4), decimal("big", 38, 0), decimal("tiny", 38, 38)];
    let others = r#"{"name":"count","type":"long"},{"name":"weight","type":"double"}"#;
    StreamSchema::parse(&format!(r#"{{"type":"record","name":"R","fields":[{},{others}]}}"#, fields.join(","))).unwrap()
}

/// Two records: price 12.50, rate 1.2345, big 38 nines, tiny 1e-38, count 3, weight 0.5; then the decimals are null.
fn batch() -> RecordBatch {
    let decimals = |value: i128, precision: u8, scale: i8| -> Arc<dyn Array> {
        let column = Decimal128Array::from(vec![Some(value), None]);
        Arc::new(column.with_precision_and_scale(precision, scale).unwrap())
    };
    let columns: Vec<Arc<dyn Array>> = vec![
        decimals(1250, 10, 2),
        decimals(12_345, 8, 4),
        decimals(MOST, 38, 0),
        decimals(1, 38, 38),
        Arc::new(Int64Array::from(vec![3, 3])),
        Arc::new(Float64Array::from(vec![0.5, 0.5])),
    ];
    RecordBatch::try_new(schema().arrow, columns).unwrap()
}

fn values(text: &str) -> Vec<Scalar> {
    let expr = ScalarExpr::parse(text, &schema()).unwrap_or_else(|error| panic!("{text}: {error}"));
    let array = expr.eval(&batch());
    (0..2).map(|row| Scalar::from(scalar_at(array.as_ref(), row))).collect()
}

/// The value of the first record; that of a decimal as text.
fn value(text: &str) -> String {
    match &values(text)[0] {
        Scalar::Decimal(value) => value.to_string(),
        other => format!("{other:?}"),
    }
}

#[test]
fn arithmetic_of_decimals_is_exact_and_has_the_digits_that_sql_gives_it() {
    for (text, expected) in [
        ("price + rate", "13.7345"),
        ("price - 0.1", "12.40"),
        ("price * rate", "15.431250"),
        ("price * count", "37.50"),
        ("price / count", "4.166667"),
        ("-price / count", "-4.166667"),
        ("price % 5", "2.50"),
        ("-price", "-12.50"),
        ("+price", "12.50"),
        ("price + 0.00000000000000000001", "12.50000000000000000001"),
        ("abs(-price)", "12.50"),
        ("round(rate, 2)", "1.23"),
        ("round(-price)", "-13"),
        ("floor(-rate)", "-2"),
        ("ceil(rate)", "2"),
        ("greatest(price, rate)", "12.5000"),
        ("coalesce(price, 0)", "12.50"),
        ("CASE WHEN price > 12 THEN price ELSE 0.001 END", "12.500"),
    ] {
        assert_eq!(value(text), expected, "{text}");
    }
    assert_eq!(value("price * weight"), "Number(6.25)", "beside a float it is one");
}

#[test]
fn a_decimal_result_without_a_value_is_null() {
    for text in ["price / 0", "price % 0", "big + 1", "big * 10", "-big - 1", "price / (price - price)"] {
        assert_eq!(values(text)[0], Scalar::Null, "{text}");
    }
    for text in ["price + 1", "price * rate", "-price", "round(price)", "price > 1", "abs(price)"] {
        assert_eq!(values(text)[1], Scalar::Null, "{text}");
    }
    assert_eq!(value("coalesce(big, 0) = 99999999999999999999999999999999999999"), "Boolean(true)");
}

#[test]
fn decimals_are_compared_exactly_whatever_their_scales() {
    for text in [
        "price = 12.5",
        "price = 12.500000",
        "price <> 12.50000000000000000000000000000000001",
        "price < 12.50000000000000000000000000000000001",
        "big > tiny",
        "tiny > 0",
        "big > 9223372036854775807",
        "big = 99999999999999999999999999999999999999",
        "price IN (1, 12.5)",
        "price BETWEEN 12.49 AND 12.51",
        "count < price",
        "price > rate",
        "rate < price",
        "price > weight",
        "nullif(price, 12.5) IS NULL",
    ] {
        assert_eq!(value(text), "Boolean(true)", "{text}");
    }
}

#[test]
fn what_decimals_cannot_do_is_refused() {
    for (text, reason) in [
        ("tiny * rate", "the result has 42 decimals"),
        ("coalesce(big, tiny)", "76 digits"),
        ("price = 'x'", "cannot compare a decimal and a text"),
        ("lower(price)", "a text is expected here, but this is a decimal"),
        ("hour(price)", "a timestamp is expected here, but this is a decimal"),
    ] {
        let error = ScalarExpr::parse(text, &schema()).expect_err(text).to_string();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn a_sum_of_decimals_has_38_digits_and_a_mean_is_a_double() {
    let kind = |text: &str| Aggregate::parse(text, &schema()).unwrap().kind().clone();
    assert_eq!(kind("sum(price)"), Kind::Decimal { precision: 38, scale: 2 });
    assert_eq!(kind("min(price)"), Kind::Decimal { precision: 10, scale: 2 });
    assert_eq!(kind("last(price * rate)"), Kind::Decimal { precision: 18, scale: 6 });
    assert_eq!(kind("avg(price)"), Kind::Double);
}

#[test]
fn a_decimal_is_the_nearest_float_where_a_float_is_asked_for() {
    assert_eq!(value("sqrt(price * 2)"), "Number(5.0)");
    let Scalar::Number(nearest) = values("power(tiny, 1)")[0] else { panic!("a float") };
    assert_eq!(nearest.to_bits(), 1e-38_f64.to_bits());
    assert_eq!(Decimal { unscaled: 1, scale: 38 }.to_string().parse::<f64>(), Ok(1e-38));
}
