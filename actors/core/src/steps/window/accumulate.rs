//! Running aggregates of all groups of one window, one vector per aggregate, so that a run of records is worked in
//! column by column with the kind of aggregate decided once.

use std::sync::Arc;

use arrow_array::{
    Array, ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int64Array, StringArray, TimestampMillisecondArray,
};
use arrow_buffer::i256;
use serde::{Deserialize, Serialize};

use super::{Moments, plan::WindowOutput};
use crate::{
    expr::AggregateFunction,
    schema::{
        Decimal, Kind, Scalar,
        decimal::{MAX_PRECISION, fits},
    },
};

/// One record of a run: its row in the batch and its group's place in the window.
pub(super) type Placed = (u32, u32);

/// The state of one aggregate for each group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Accumulators {
    Count(Vec<i64>),
    /// Wide enough that no sum of 64-bit integers overflows.
    SumInteger(Vec<Option<i128>>),
    SumDouble(Vec<Option<f64>>),
    Mean(Vec<Mean>),
    Moments(Vec<Moments>),
    MinInteger(Vec<Option<i64>>),
    MaxInteger(Vec<Option<i64>>),
    MinDouble(Vec<Option<f64>>),
    MaxDouble(Vec<Option<f64>>),
    MinText(Vec<Option<Arc<str>>>),
    MaxText(Vec<Option<Arc<str>>>),
    First(Vec<Option<Stamped>>),
    Last(Vec<Option<Stamped>>),
    /// With the scale of the values, as are the next two; wide enough that no sum of decimals overflows.
    SumDecimal(u8, Vec<Option<Wide>>),
    MinDecimal(u8, Vec<Option<i128>>),
    MaxDecimal(u8, Vec<Option<i128>>),
}

/// A whole number of 256 bits; a checkpoint has its lower and its upper half.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(from = "(u128, i128)", into = "(u128, i128)")]
pub(super) struct Wide(i256);

impl From<(u128, i128)> for Wide {
    fn from((low, high): (u128, i128)) -> Self {
        Self(i256::from_parts(low, high))
    }
}

impl From<Wide> for (u128, i128) {
    fn from(wide: Wide) -> Self {
        wide.0.to_parts()
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Mean {
    sum: f64,
    count: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Stamped {
    at_ms: i64,
    value: Scalar,
}

/// What an aggregate is computed over, for one batch.
#[derive(Debug, Clone, Copy)]
pub(super) enum Input<'a> {
    /// `count(*)`: every record.
    Records,
    Boolean(&'a BooleanArray),
    Integer(&'a Int64Array),
    Double(&'a Float64Array),
    Timestamp(&'a TimestampMillisecondArray),
    Text(&'a StringArray),
    Decimal(&'a Decimal128Array),
}

impl<'a> Input<'a> {
    /// # Panics
    /// If the array is none that an expression yields.
    pub(super) fn of(array: &'a ArrayRef) -> Self {
        let any = array.as_any();
        if let Some(values) = any.downcast_ref() {
            Self::Double(values)
        } else if let Some(values) = any.downcast_ref() {
            Self::Integer(values)
        } else if let Some(values) = any.downcast_ref() {
            Self::Text(values)
        } else if let Some(values) = any.downcast_ref() {
            Self::Boolean(values)
        } else if let Some(values) = any.downcast_ref() {
            Self::Decimal(values)
        } else {
            Self::Timestamp(any.downcast_ref().expect("expressions yield these types only"))
        }
    }

    fn array(&self) -> Option<&dyn Array> {
        match self {
            Self::Records => None,
            Self::Boolean(array) => Some(*array),
            Self::Integer(array) => Some(*array),
            Self::Double(array) => Some(*array),
            Self::Timestamp(array) => Some(*array),
            Self::Text(array) => Some(*array),
            Self::Decimal(array) => Some(*array),
        }
    }

    fn integer(&self, row: usize) -> i64 {
        match self {
            Self::Integer(array) => array.value(row),
            Self::Timestamp(array) => array.value(row),
            _ => mismatch(),
        }
    }

    fn double(&self, row: usize) -> f64 {
        match self {
            Self::Double(array) => array.value(row),
            _ => mismatch(),
        }
    }

    fn text(&self, row: usize) -> &'a str {
        match self {
            Self::Text(array) => array.value(row),
            _ => mismatch(),
        }
    }

    fn decimal(&self, row: usize) -> i128 {
        match self {
            Self::Decimal(array) => array.value(row),
            _ => mismatch(),
        }
    }

    fn scalar(&self, row: usize) -> Scalar {
        match self {
            Self::Records => Scalar::Null,
            Self::Boolean(array) => Scalar::Boolean(array.value(row)),
            Self::Integer(_) | Self::Timestamp(_) => Scalar::Integer(self.integer(row)),
            Self::Double(array) => Scalar::Number(array.value(row)),
            Self::Text(array) => Scalar::Text(array.value(row).to_owned()),
            Self::Decimal(array) => decimal(array.value(row), array.scale().unsigned_abs()),
        }
    }

    /// Calls `add` with row and group of each record that has a value.
    fn each(&self, run: &[Placed], mut add: impl FnMut(usize, usize)) {
        match self.array().and_then(Array::nulls) {
            None => run.iter().for_each(|&(row, group)| add(row as usize, group as usize)),
            Some(nulls) => {
                let valid = run.iter().filter(|(row, _)| nulls.is_valid(*row as usize));
                valid.for_each(|&(row, group)| add(row as usize, group as usize));
            }
        }
    }
}

fn mismatch() -> ! {
    unreachable!("the plan gave each aggregate an argument of its type")
}

impl Accumulators {
    /// No groups yet.
    pub(super) fn new(output: &WindowOutput) -> Self {
        let is_double = output.argument_kind == Kind::Double;
        let is_text = output.argument_kind == Kind::String;
        if let Kind::Decimal { scale, .. } = output.argument_kind {
            match output.function {
                AggregateFunction::Sum => return Self::SumDecimal(scale, Vec::new()),
                AggregateFunction::Min => return Self::MinDecimal(scale, Vec::new()),
                AggregateFunction::Max => return Self::MaxDecimal(scale, Vec::new()),
                AggregateFunction::Count
                | AggregateFunction::Avg
                | AggregateFunction::StdDev
                | AggregateFunction::Variance
                | AggregateFunction::First
                | AggregateFunction::Last => {}
            }
        }
        match output.function {
            AggregateFunction::Count => Self::Count(Vec::new()),
            AggregateFunction::Sum if is_double => Self::SumDouble(Vec::new()),
            AggregateFunction::Sum => Self::SumInteger(Vec::new()),
            AggregateFunction::Avg => Self::Mean(Vec::new()),
            AggregateFunction::StdDev | AggregateFunction::Variance => Self::Moments(Vec::new()),
            AggregateFunction::Min if is_double => Self::MinDouble(Vec::new()),
            AggregateFunction::Min if is_text => Self::MinText(Vec::new()),
            AggregateFunction::Min => Self::MinInteger(Vec::new()),
            AggregateFunction::Max if is_double => Self::MaxDouble(Vec::new()),
            AggregateFunction::Max if is_text => Self::MaxText(Vec::new()),
            AggregateFunction::Max => Self::MaxInteger(Vec::new()),
            AggregateFunction::First => Self::First(Vec::new()),
            AggregateFunction::Last => Self::Last(Vec::new()),
        }
    }

    /// Makes room for `groups` groups; new ones start without records.
    pub(super) fn grow(&mut self, groups: usize) {
        match self {
            Self::Count(states) => states.resize(groups, 0),
            Self::SumInteger(states) => states.resize(groups, None),
            Self::SumDouble(states) | Self::MinDouble(states) | Self::MaxDouble(states) => states.resize(groups, None),
            Self::Mean(states) => states.resize(groups, Mean::default()),
            Self::Moments(states) => states.resize(groups, Moments::default()),
            Self::MinInteger(states) | Self::MaxInteger(states) => states.resize(groups, None),
            Self::MinText(states) | Self::MaxText(states) => states.resize(groups, None),
            Self::First(states) | Self::Last(states) => states.resize(groups, None),
            Self::SumDecimal(_, states) => states.resize(groups, None),
            Self::MinDecimal(_, states) | Self::MaxDecimal(_, states) => states.resize(groups, None),
        }
    }

    /// Number of groups.
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Count(states) => states.len(),
            Self::SumInteger(states) => states.len(),
            Self::SumDouble(states) | Self::MinDouble(states) | Self::MaxDouble(states) => states.len(),
            Self::Mean(states) => states.len(),
            Self::Moments(states) => states.len(),
            Self::MinInteger(states) | Self::MaxInteger(states) => states.len(),
            Self::MinText(states) | Self::MaxText(states) => states.len(),
            Self::First(states) | Self::Last(states) => states.len(),
            Self::SumDecimal(_, states) => states.len(),
            Self::MinDecimal(_, states) | Self::MaxDecimal(_, states) => states.len(),
        }
    }

    /// Whether this is the state that `output` needs.
    pub(super) fn fits(&self, output: &WindowOutput) -> bool {
        let wanted = Self::new(output);
        std::mem::discriminant(self) == std::mem::discriminant(&wanted) && self.scale() == wanted.scale()
    }

    /// Of decimals alone.
    fn scale(&self) -> Option<u8> {
        match self {
            Self::SumDecimal(scale, _) | Self::MinDecimal(scale, _) | Self::MaxDecimal(scale, _) => Some(*scale),
            _ => None,
        }
    }

    /// Adds a run of records in their order; `times` are the event times of the batch's rows.
    pub(super) fn add(&mut self, input: &Input<'_>, run: &[Placed], times: &[i64]) {
        match self {
            Self::Count(states) => input.each(run, |_, group| states[group] += 1),
            Self::SumInteger(states) => input.each(run, |row, group| {
                *states[group].get_or_insert(0) += i128::from(input.integer(row));
            }),
            Self::SumDouble(states) => input.each(run, |row, group| {
                *states[group].get_or_insert(0.0) += input.double(row);
            }),
            Self::Mean(states) => input.each(run, |row, group| {
                states[group].sum += input.double(row);
                states[group].count += 1;
            }),
            Self::Moments(states) => input.each(run, |row, group| states[group].add(input.double(row))),
            Self::MinInteger(states) => {
                input.each(run, |row, group| keep(&mut states[group], input.integer(row), |new, old| new < old));
            }
            Self::MaxInteger(states) => {
                input.each(run, |row, group| keep(&mut states[group], input.integer(row), |new, old| new > old));
            }
            Self::MinDouble(states) => {
                input.each(run, |row, group| keep(&mut states[group], input.double(row), |new, old| new < old));
            }
            Self::MaxDouble(states) => {
                input.each(run, |row, group| keep(&mut states[group], input.double(row), |new, old| new > old));
            }
            Self::MinText(states) => {
                input.each(run, |row, group| keep_text(&mut states[group], input.text(row), |new, old| new < old));
            }
            Self::MaxText(states) => {
                input.each(run, |row, group| keep_text(&mut states[group], input.text(row), |new, old| new > old));
            }
            Self::SumDecimal(_, states) => input.each(run, |row, group| {
                let sum = states[group].get_or_insert(Wide(i256::ZERO));
                sum.0 = sum.0.wrapping_add(i256::from_i128(input.decimal(row)));
            }),
            Self::MinDecimal(_, states) => {
                input.each(run, |row, group| keep(&mut states[group], input.decimal(row), |new, old| new < old));
            }
            Self::MaxDecimal(_, states) => {
                input.each(run, |row, group| keep(&mut states[group], input.decimal(row), |new, old| new > old));
            }
            Self::First(states) => input.each(run, |row, group| {
                if states[group].as_ref().is_none_or(|first| times[row] < first.at_ms) {
                    states[group] = Some(Stamped { at_ms: times[row], value: input.scalar(row) });
                }
            }),
            Self::Last(states) => input.each(run, |row, group| {
                if states[group].as_ref().is_none_or(|last| times[row] >= last.at_ms) {
                    states[group] = Some(Stamped { at_ms: times[row], value: input.scalar(row) });
                }
            }),
        }
    }

    /// Writes the result of a group and the values that make it mergeable.
    pub(super) fn emit(&self, function: AggregateFunction, group: usize, row: &mut Emission) {
        match self {
            Self::Count(states) => row.result(Scalar::Integer(states[group])),
            Self::SumInteger(states) => {
                row.computed(states[group].map(|sum| i64::try_from(sum).map_or(Scalar::Null, Scalar::Integer)));
            }
            Self::SumDouble(states) | Self::MinDouble(states) | Self::MaxDouble(states) => {
                row.computed(states[group].map(number));
            }
            Self::MinInteger(states) | Self::MaxInteger(states) => {
                row.result(states[group].map_or(Scalar::Null, Scalar::Integer));
            }
            Self::MinText(states) | Self::MaxText(states) => {
                row.result(states[group].as_ref().map_or(Scalar::Null, |text| Scalar::Text(text.to_string())));
            }
            Self::SumDecimal(scale, states) => {
                let in_range = |sum: Wide| sum.0.to_i128().filter(|sum| fits(*sum, MAX_PRECISION));
                row.computed(states[group].map(|sum| in_range(sum).map_or(Scalar::Null, |sum| decimal(sum, *scale))));
            }
            Self::MinDecimal(scale, states) | Self::MaxDecimal(scale, states) => {
                row.result(states[group].map_or(Scalar::Null, |value| decimal(value, *scale)));
            }
            Self::Mean(states) => {
                let Mean { sum, count } = states[group];
                row.computed((count > 0).then(|| number(sum / count as f64)));
                row.merge([if count > 0 { number(sum) } else { Scalar::Null }, Scalar::Integer(count)]);
            }
            Self::Moments(states) => {
                let moments = states[group];
                let deviation = function == AggregateFunction::StdDev;
                row.computed(moments.variance().map(|value| number(if deviation { value.sqrt() } else { value })));
                let some = |value: f64| if moments.count > 0 { number(value) } else { Scalar::Null };
                row.merge([Scalar::Integer(moments.count), some(moments.mean), some(moments.m2)]);
            }
            Self::First(states) | Self::Last(states) => match &states[group] {
                Some(stamped) => {
                    row.result(stamped.value.clone());
                    row.merge([Scalar::Integer(stamped.at_ms)]);
                }
                None => {
                    row.result(Scalar::Null);
                    row.merge([Scalar::Null]);
                }
            },
        }
    }
}

/// The values of a row while it is put together: results first, then what makes them mergeable.
#[derive(Debug, Default)]
pub(super) struct Emission {
    results: Vec<Scalar>,
    mergeable: Vec<Scalar>,
    /// Places of the results that are beyond the range of their type.
    overflow: Vec<usize>,
}

impl Emission {
    /// A result that was computed, if there was anything to compute it from; null then means that it has no value in its
    /// type.
    fn computed(&mut self, value: Option<Scalar>) {
        if value == Some(Scalar::Null) {
            self.overflow.push(self.results.len());
        }
        self.result(value.unwrap_or(Scalar::Null));
    }

    /// Places of the results that are beyond the range of their type.
    pub(super) fn overflow(&self) -> impl Iterator<Item = usize> {
        self.overflow.iter().copied()
    }

    fn result(&mut self, value: Scalar) {
        self.results.push(value);
    }

    fn merge<const N: usize>(&mut self, values: [Scalar; N]) {
        self.mergeable.extend(values);
    }

    pub(super) fn values(mut self) -> Vec<Scalar> {
        self.results.append(&mut self.mergeable);
        self.results
    }
}

fn keep<T: Copy>(state: &mut Option<T>, value: T, better: impl Fn(T, T) -> bool) {
    if state.is_none_or(|old| better(value, old)) {
        *state = Some(value);
    }
}

fn keep_text(state: &mut Option<Arc<str>>, value: &str, better: impl Fn(&str, &str) -> bool) {
    if state.as_deref().is_none_or(|old| better(value, old)) {
        *state = Some(value.into());
    }
}

fn decimal(unscaled: i128, scale: u8) -> Scalar {
    Scalar::Decimal(Decimal { unscaled, scale })
}

/// A float for a table: what is beyond its range has no value.
fn number(value: f64) -> Scalar {
    if value.is_finite() { Scalar::Number(value) } else { Scalar::Null }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: i128 = 99_999_999_999_999_999_999_999_999_999_999_999_999;

    #[test]
    fn a_sum_of_decimals_is_exact_and_comes_back_from_beyond_38_digits() {
        let kind = Kind::Decimal { precision: 38, scale: 2 };
        let output = WindowOutput { function: AggregateFunction::Sum, argument: Some(0), argument_kind: kind };
        let values = Decimal128Array::from(vec![Some(MOST), Some(MOST), None, Some(-MOST), Some(-1)]);
        let column: ArrayRef = Arc::new(values.with_precision_and_scale(38, 2).expect("38 digits"));
        let mut sums = Accumulators::new(&output);
        sums.grow(1);
        let mut emitted = |run: &[Placed]| {
            sums.add(&Input::of(&column), run, &[0; 5]);
            let bytes = postcard::to_stdvec(&sums).expect("a state is written");
            assert_eq!(postcard::from_bytes::<Accumulators>(&bytes).expect("and read"), sums);
            let mut row = Emission::default();
            sums.emit(AggregateFunction::Sum, 0, &mut row);
            (row.overflow().count(), row.values())
        };
        assert_eq!(emitted(&[(2, 0)]), (0, vec![Scalar::Null]), "nothing to add up");
        assert_eq!(emitted(&[(0, 0), (1, 0)]), (1, vec![Scalar::Null]), "39 digits");
        assert_eq!(emitted(&[(3, 0), (4, 0)]), (0, vec![decimal(MOST - 1, 2)]));
    }
}
