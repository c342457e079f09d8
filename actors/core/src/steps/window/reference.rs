//! Windows worked out in the plainest way: all records in memory, one definition after the other, no state.
//!
//! For tests and for checking stored windows against stored records. It shares no code with the real windows except
//! their definition of start and end. Slow on purpose: quadratic in places.

use super::plan::WindowPlan;
use crate::{
    expr::AggregateFunction,
    schema::Scalar,
    watermark::{NO_WATERMARK, WatermarkRules},
};

/// One record as a window sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceRecord {
    pub event_time_ms: i64,
    pub log_timestamp_ms: i64,
    /// Values of the group columns.
    pub group: Vec<Scalar>,
    /// For each selected aggregate, the value of its argument; anything but null for `count(*)`.
    pub arguments: Vec<Scalar>,
}

/// One final row.
#[derive(Debug, Clone, PartialEq)]
pub struct ReferenceRow {
    pub start_ms: i64,
    pub group: Vec<Scalar>,
    /// Values of the selected columns, without the mergeable ones.
    pub values: Vec<Scalar>,
}

/// What the windows of a log come to.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// All groups of all windows, ended or not, by window and order of appearance.
    pub rows: Vec<ReferenceRow>,
    /// Indexes of the records that came too late for their window.
    pub late: Vec<usize>,
    /// Indexes of the records that are too far ahead of their log timestamp.
    pub ahead: Vec<usize>,
    /// The watermark after the last record.
    pub watermark_ms: i64,
}

/// Works out the windows of one partition's log.
#[must_use]
pub fn recompute(plan: &WindowPlan, rules: WatermarkRules, records: &[ReferenceRecord]) -> Reference {
    let mut watermark_ms = NO_WATERMARK;
    let (mut late, mut ahead) = (Vec::new(), Vec::new());
    let mut groups: Vec<(i64, &[Scalar], Vec<&ReferenceRecord>)> = Vec::new();
    for (index, record) in records.iter().enumerate() {
        let before_ms = watermark_ms;
        let start_ms = plan.start_of(record.event_time_ms);
        if rules.is_ahead(record.event_time_ms, record.log_timestamp_ms) {
            ahead.push(index);
            continue;
        }
        watermark_ms = watermark_ms.max(record.event_time_ms - rules.out_of_orderness_ms);
        if plan.gone_at(start_ms) <= before_ms {
            late.push(index);
        } else {
            match groups.iter_mut().find(|(start, group, _)| *start == start_ms && *group == record.group) {
                Some((_, _, members)) => members.push(record),
                None => groups.push((start_ms, &record.group, vec![record])),
            }
        }
    }
    groups.sort_by_key(|(start_ms, _, _)| *start_ms);
    let rows = groups.into_iter().map(|(start_ms, group, members)| {
        let values = plan.outputs.iter().enumerate().map(|(index, output)| {
            let values: Vec<(i64, &Scalar)> = members
                .iter()
                .map(|record| (record.event_time_ms, &record.arguments[index]))
                .filter(|(_, value)| **value != Scalar::Null)
                .collect();
            aggregate(output.function, &values)
        });
        ReferenceRow { start_ms, group: group.to_vec(), values: values.collect() }
    });
    Reference { rows: rows.collect(), late, ahead, watermark_ms }
}

/// One aggregate over the values of a group in log order, each with its event time.
#[must_use]
pub fn aggregate(function: AggregateFunction, values: &[(i64, &Scalar)]) -> Scalar {
    let numbers: Vec<f64> = values.iter().filter_map(|(_, value)| number(value)).collect();
    let count = numbers.len() as f64;
    let mean = numbers.iter().sum::<f64>() / count;
    let variance = numbers.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1.0);
    match function {
        AggregateFunction::Count => Scalar::Integer(values.len() as i64),
        AggregateFunction::Sum => sum(values),
        AggregateFunction::Avg => some_number(mean),
        AggregateFunction::Variance => some_number(variance),
        AggregateFunction::StdDev => some_number(variance.sqrt()),
        AggregateFunction::Min => best(values, less),
        AggregateFunction::Max => best(values, |new, old| less(old, new)),
        AggregateFunction::First => stamped(values, |new, old| new < old),
        AggregateFunction::Last => stamped(values, |new, old| new >= old),
    }
}

fn sum(values: &[(i64, &Scalar)]) -> Scalar {
    let integers: Option<Vec<i128>> = values
        .iter()
        .map(|(_, value)| match value {
            Scalar::Integer(integer) => Some(i128::from(*integer)),
            Scalar::Null | Scalar::Boolean(_) | Scalar::Number(_) | Scalar::Text(_) | Scalar::Decimal(_) => None,
        })
        .collect();
    match integers {
        _ if values.is_empty() => Scalar::Null,
        Some(integers) => i64::try_from(integers.iter().sum::<i128>()).map_or(Scalar::Null, Scalar::Integer),
        None => some_number(values.iter().filter_map(|(_, value)| number(value)).sum()),
    }
}

fn best(values: &[(i64, &Scalar)], better: impl Fn(&Scalar, &Scalar) -> bool) -> Scalar {
    let best = values.iter().map(|(_, value)| *value).reduce(|old, new| if better(new, old) { new } else { old });
    best.cloned().unwrap_or(Scalar::Null)
}

fn stamped(values: &[(i64, &Scalar)], better: impl Fn(i64, i64) -> bool) -> Scalar {
    let best = values.iter().copied().reduce(|old, new| if better(new.0, old.0) { new } else { old });
    best.map_or(Scalar::Null, |(_, value)| value.clone())
}

fn less(one: &Scalar, other: &Scalar) -> bool {
    match (one, other) {
        (Scalar::Integer(a), Scalar::Integer(b)) => a < b,
        (Scalar::Text(a), Scalar::Text(b)) => a < b,
        _ => number(one) < number(other),
    }
}

fn number(value: &Scalar) -> Option<f64> {
    match value {
        Scalar::Integer(integer) => Some(*integer as f64),
        Scalar::Number(number) => Some(*number),
        Scalar::Decimal(value) => value.to_string().parse().ok(),
        Scalar::Null | Scalar::Boolean(_) | Scalar::Text(_) => None,
    }
}

fn some_number(value: f64) -> Scalar {
    if value.is_finite() { Scalar::Number(value) } else { Scalar::Null }
}
