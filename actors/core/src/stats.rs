//! What a batch adds to a stream's running figures: counts per minute and the newest event time of each key.
//!
//! Pure functions of one batch. They keep no state: the sink adds the deltas to what it stores, in the transaction that
//! stores the rows, so that the figures can never disagree with them.

use std::{collections::BTreeMap, hash::Hash};

use arrow_array::{
    Array, BooleanArray, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    cast::AsArray, types::TimestampMillisecondType,
};
use foldhash::fast::FixedState;
use hashbrown::{HashMap, hash_map::Entry};

use crate::schema::Decimal;

const MINUTE_MS: i64 = 60_000;

/// What one batch adds to one minute of event time.
#[derive(Debug, Clone, PartialEq)]
pub struct MinuteDelta {
    /// Start of the minute, in milliseconds since 1970 (UTC).
    pub minute_ms: i64,
    /// Records of that minute.
    pub count: i64,
    /// Records that have a measure.
    pub measured: i64,
    /// Sum of the measure over them.
    pub sum: f64,
    /// Records labelled as anomalies.
    pub anomalies: i64,
}

impl MinuteDelta {
    /// Nothing yet of a minute.
    #[must_use]
    pub fn new(minute_ms: i64) -> Self {
        Self { minute_ms, count: 0, measured: 0, sum: 0.0, anomalies: 0 }
    }

    /// Adds what another batch adds to the same minute.
    pub fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.measured += other.measured;
        self.sum += other.sum;
        self.anomalies += other.anomalies;
    }
}

/// Columns that the figures are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatColumns {
    /// Index of the event time.
    pub event_time: usize,
    /// Index of the number that is summed; without it sums are 0.
    pub measure: Option<usize>,
    /// Index of the boolean label; without it there are no anomalies.
    pub anomaly: Option<usize>,
}

/// Counts, sums and anomalies of `batch` per minute of event time, ascending by minute.
///
/// # Panics
/// If the event time column is not a timestamp in milliseconds.
#[must_use]
pub fn minute_deltas(batch: &RecordBatch, columns: StatColumns) -> Vec<MinuteDelta> {
    let times = batch.column(columns.event_time).as_primitive::<TimestampMillisecondType>();
    let measure = columns.measure.map(|index| Measure::of(batch.column(index).as_ref()));
    let anomaly = columns.anomaly.and_then(|index| batch.column(index).as_any().downcast_ref::<BooleanArray>());
    let mut minutes = BTreeMap::<i64, MinuteDelta>::new();
    let mut current: Option<MinuteDelta> = None;
    for row in 0..batch.num_rows() {
        let minute_ms = times.value(row).div_euclid(MINUTE_MS).saturating_mul(MINUTE_MS);
        if current.as_ref().is_none_or(|delta| delta.minute_ms != minute_ms) {
            let next = minutes.remove(&minute_ms).unwrap_or_else(|| MinuteDelta::new(minute_ms));
            if let Some(done) = current.replace(next) {
                minutes.insert(done.minute_ms, done);
            }
        }
        let Some(delta) = current.as_mut() else { continue };
        delta.count += 1;
        if let Some(value) = measure.as_ref().and_then(|measure| measure.at(row)) {
            delta.measured += 1;
            delta.sum += value;
        }
        delta.anomalies += i64::from(anomaly.is_some_and(|label| label.is_valid(row) && label.value(row)));
    }
    minutes.extend(current.map(|delta| (delta.minute_ms, delta)));
    minutes.into_values().collect()
}

/// The newest event time of each key in `batch`, in the order in which the keys come. Records without a key are left
/// out.
///
/// # Panics
/// If the event time column is not a timestamp in milliseconds.
#[must_use]
pub fn last_seen(batch: &RecordBatch, key: usize, event_time: usize) -> Vec<(String, i64)> {
    let times = batch.column(event_time).as_primitive::<TimestampMillisecondType>().values();
    let column = batch.column(key).as_ref();
    let any = column.as_any();
    if let Some(texts) = any.downcast_ref::<StringArray>() {
        newest(texts.iter().zip(times.iter().copied()))
    } else if let Some(values) = any.downcast_ref::<Decimal128Array>() {
        let scale = values.scale().unsigned_abs();
        let decimals = values.iter().map(|value| value.map(|unscaled| Decimal { unscaled, scale }));
        newest(decimals.zip(times.iter().copied()))
    } else {
        newest(integers(column).zip(times.iter().copied()))
    }
}

fn newest<K: Hash + Eq + Copy + ToString>(records: impl Iterator<Item = (Option<K>, i64)>) -> Vec<(String, i64)> {
    let mut places =
        HashMap::<K, usize, FixedState>::with_capacity_and_hasher(records.size_hint().0, FixedState::default());
    let mut newest: Vec<(String, i64)> = Vec::new();
    for (key, at) in records {
        let Some(key) = key else { continue };
        match places.entry(key) {
            Entry::Occupied(place) => newest[*place.get()].1 = at.max(newest[*place.get()].1),
            Entry::Vacant(place) => {
                place.insert(newest.len());
                newest.push((key.to_string(), at));
            }
        }
    }
    newest
}

fn integers(column: &dyn Array) -> Box<dyn Iterator<Item = Option<i64>> + '_> {
    if let Some(values) = column.as_any().downcast_ref::<Int64Array>() {
        Box::new(values.iter())
    } else if let Some(values) = column.as_any().downcast_ref::<Int32Array>() {
        Box::new(values.iter().map(|value| value.map(i64::from)))
    } else {
        Box::new(std::iter::empty())
    }
}

enum Measure<'a> {
    Double(&'a Float64Array),
    Float(&'a Float32Array),
    Long(&'a Int64Array),
    Int(&'a Int32Array),
    Other,
}

impl<'a> Measure<'a> {
    fn of(column: &'a dyn Array) -> Self {
        let any = column.as_any();
        if let Some(values) = any.downcast_ref() {
            Self::Double(values)
        } else if let Some(values) = any.downcast_ref() {
            Self::Float(values)
        } else if let Some(values) = any.downcast_ref() {
            Self::Long(values)
        } else if let Some(values) = any.downcast_ref() {
            Self::Int(values)
        } else {
            Self::Other
        }
    }

    fn at(&self, row: usize) -> Option<f64> {
        match self {
            Self::Double(values) => values.is_valid(row).then(|| values.value(row)),
            Self::Float(values) => values.is_valid(row).then(|| f64::from(values.value(row))),
            Self::Long(values) => values.is_valid(row).then(|| values.value(row) as f64),
            Self::Int(values) => values.is_valid(row).then(|| f64::from(values.value(row))),
            Self::Other => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::expr::fixtures::{Reading, batch};

    /// Start and count of each minute of readings at these times.
    fn minutes(times: &[i64]) -> Vec<(i64, i64)> {
        let readings: Vec<Reading> =
            times.iter().map(|time| Reading { timestamp: *time, ..Reading::default() }).collect();
        let columns = StatColumns { event_time: 3, measure: None, anomaly: None };
        minute_deltas(&batch(&readings), columns).iter().map(|delta| (delta.minute_ms, delta.count)).collect()
    }

    #[test]
    fn a_minute_begins_at_its_first_millisecond_also_before_1970() {
        assert_eq!(minutes(&[0, 59_999, 60_000]), [(0, 2), (60_000, 1)]);
        assert_eq!(minutes(&[-1, -60_000, -60_001, 0]), [(-120_000, 1), (-60_000, 2), (0, 1)]);
    }

    #[test]
    fn a_minute_that_comes_again_is_counted_once() {
        assert_eq!(minutes(&[1, 60_001, 2, 60_002, 3]), [(0, 3), (60_000, 2)]);
    }
}
