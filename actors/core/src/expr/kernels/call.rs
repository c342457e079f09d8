//! The functions of expressions on columns.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, Float64Array, Int64Array, StringArray,
    cast::AsArray,
    types::{Float64Type, Int64Type, TimestampMillisecondType},
};
use arrow_schema::DataType;
use arrow_select::nullif::nullif;

use super::{compare, decimal, is_decimal, is_null, not, number::finite, or};
use crate::expr::{
    eval::{TYPED, Value, choose},
    functions::Function,
    plan::Comparison,
};

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;
const HOUR_MS: i64 = 60 * MINUTE_MS;
const DAY_MS: i64 = 24 * HOUR_MS;
/// 1970-01-01 was a Thursday.
const FIRST_DAY_OF_WEEK: i64 = 4;

/// Calls `function` with arguments of the types that it takes.
pub(in crate::expr) fn call(function: Function, arguments: Vec<Value>, len: usize) -> Value {
    match function {
        Function::Coalesce => reduce(arguments, |first, second| choose(&is_null(&first), second, first, len)),
        Function::Least => reduce(arguments, |found, next| extreme(Comparison::Less, found, next, len)),
        Function::Greatest => reduce(arguments, |found, next| extreme(Comparison::Greater, found, next, len)),
        Function::NullIf => {
            let equal = compare(Comparison::Equal, &arguments[0], &arguments[1]);
            match equal {
                Value::Constant(equal) => {
                    arguments[0].with(nullif(arguments[0].array(), equal.as_boolean()).expect(TYPED))
                }
                Value::Array(equal) => {
                    let value = arguments[0].clone().into_array(len);
                    Value::Array(nullif(&value, equal.as_boolean()).expect(TYPED))
                }
            }
        }
        Function::Power => {
            let (base, exponent) = (arguments[0].clone().into_array(len), arguments[1].clone().into_array(len));
            let (base, exponent) = (base.as_primitive::<Float64Type>(), exponent.as_primitive::<Float64Type>());
            let powers = base.iter().zip(exponent).map(|(base, exponent)| Some(base?.powf(exponent?)));
            Value::Array(finite(&powers.collect::<Float64Array>()))
        }
        Function::Round if arguments.len() == 2 => {
            let decimals = arguments[1].array().as_primitive::<Int64Type>().value(0);
            if is_decimal(arguments[0].array()) {
                let decimals = u8::try_from(decimals).expect("decimals were checked when planned");
                return arguments[0].with(decimal::of_one(function, arguments[0].array(), decimals));
            }
            let scale = 10_f64.powi(i32::try_from(decimals).expect("decimals were checked when planned"));
            arguments[0].with(doubles(arguments[0].array(), |value| {
                let scaled = (value * scale).round() / scale;
                if scaled.is_finite() { scaled } else { value }
            }))
        }
        Function::Abs
        | Function::Ceil
        | Function::DayOfWeek
        | Function::EpochMs
        | Function::Exp
        | Function::Floor
        | Function::Hour
        | Function::Length
        | Function::Ln
        | Function::Lower
        | Function::Minute
        | Function::Round
        | Function::Second
        | Function::Sqrt
        | Function::Upper => arguments[0].with(of_one(function, arguments[0].array())),
    }
}

/// Functions of one argument.
fn of_one(function: Function, argument: &ArrayRef) -> ArrayRef {
    if is_decimal(argument) {
        return decimal::of_one(function, argument, 0);
    }
    match function {
        Function::Abs if argument.data_type() == &DataType::Int64 => {
            Arc::new(argument.as_primitive::<Int64Type>().unary_opt::<_, Int64Type>(i64::checked_abs))
        }
        Function::Abs => doubles(argument, f64::abs),
        Function::Ceil => doubles(argument, f64::ceil),
        Function::Floor => doubles(argument, f64::floor),
        Function::Round => doubles(argument, f64::round),
        Function::Exp => doubles(argument, f64::exp),
        Function::Ln => doubles(argument, f64::ln),
        Function::Sqrt => doubles(argument, f64::sqrt),
        Function::Lower => texts(argument, str::to_lowercase),
        Function::Upper => texts(argument, str::to_uppercase),
        Function::Length => {
            let lengths = argument.as_string::<i32>().iter().map(|text| text.map(|text| text.chars().count() as i64));
            Arc::new(lengths.collect::<Int64Array>())
        }
        Function::EpochMs => of_time(argument, |ms| ms),
        Function::Second => of_time(argument, |ms| ms.rem_euclid(MINUTE_MS) / SECOND_MS),
        Function::Minute => of_time(argument, |ms| ms.rem_euclid(HOUR_MS) / MINUTE_MS),
        Function::Hour => of_time(argument, |ms| ms.rem_euclid(DAY_MS) / HOUR_MS),
        Function::DayOfWeek => of_time(argument, |ms| (ms.div_euclid(DAY_MS) + FIRST_DAY_OF_WEEK).rem_euclid(7)),
        Function::Coalesce | Function::Greatest | Function::Least | Function::NullIf | Function::Power => {
            unreachable!("functions of several arguments are called by name")
        }
    }
}

fn reduce(arguments: Vec<Value>, combine: impl Fn(Value, Value) -> Value) -> Value {
    arguments.into_iter().reduce(combine).expect("the plan has an argument")
}

/// The better of two values; a null loses.
fn extreme(better: Comparison, found: Value, next: Value, len: usize) -> Value {
    let takes_over = or(compare(better, &next, &found), is_null(&found), len);
    let takes_over = super::and(takes_over, not(&is_null(&next)), len);
    choose(&takes_over, next, found, len)
}

fn doubles(argument: &ArrayRef, function: impl Fn(f64) -> f64) -> ArrayRef {
    finite(&argument.as_primitive::<Float64Type>().unary(function))
}

fn texts(argument: &ArrayRef, function: impl Fn(&str) -> String) -> ArrayRef {
    Arc::new(argument.as_string::<i32>().iter().map(|text| text.map(&function)).collect::<StringArray>())
}

fn of_time(argument: &ArrayRef, function: impl Fn(i64) -> i64) -> ArrayRef {
    Arc::new(argument.as_primitive::<TimestampMillisecondType>().unary::<_, Int64Type>(function))
}
