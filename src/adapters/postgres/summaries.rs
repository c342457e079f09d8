//! Figures per minute and the keys' newest event times.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use sqlx::PgConnection;
use streamward_core::stats::MinuteDelta;

use super::{facts::OfStream, moment::Moment, names::clean};
use crate::adapters::seen::SeenKeys;

/// What a float cannot hold is null, and what is added to it as well. PostgreSQL refuses a sum that is beyond a float, so
/// it is looked at before.
const MINUTES: &str = "INSERT INTO sw_minutes AS m (stream, minute, partition, count, sum, anomalies, measured) \
     SELECT * FROM unnest($1::text[], $2::timestamptz[], $3::integer[], $4::bigint[], $5::double precision[], $6::bigint[], \
     $7::bigint[]) ON CONFLICT (stream, minute, partition) DO UPDATE SET count = m.count + excluded.count, \
     measured = m.measured + excluded.measured, anomalies = m.anomalies + excluded.anomalies, \
     sum = CASE WHEN excluded.sum > 0 AND m.sum > 1.7976931348623157e308 - excluded.sum THEN NULL \
     WHEN excluded.sum < 0 AND m.sum < -1.7976931348623157e308 - excluded.sum THEN NULL \
     ELSE m.sum + excluded.sum END";

const KEYS: &str = "INSERT INTO sw_keys AS k (stream, \"key\", last_seen) \
     SELECT * FROM unnest($1::text[], $2::text[], $3::timestamptz[]) ON CONFLICT (stream, \"key\") DO UPDATE \
     SET last_seen = greatest(k.last_seen, excluded.last_seen) WHERE k.last_seen < excluded.last_seen";

/// Adds what outputs say of minutes and keys, in the order of their keys, so that processes do not wait for each other in
/// a circle.
///
/// # Errors
/// Of the database.
pub async fn store(
    connection: &mut PgConnection,
    outputs: &[OfStream<'_>],
    stored: &mut SeenKeys,
) -> Result<(), sqlx::Error> {
    let mut minutes: BTreeMap<(&str, i64, i32), MinuteDelta> = BTreeMap::new();
    let mut seen: HashMap<(&str, &str), i64> = HashMap::new();
    for (pending, stream) in outputs {
        for delta in &pending.output.minutes {
            let place = (*stream, delta.minute_ms, pending.key.partition);
            minutes.entry(place).or_insert_with(|| MinuteDelta::new(delta.minute_ms)).add(delta);
        }
        for (key, last_seen) in &pending.output.seen {
            let last = seen.entry((*stream, key.as_str())).or_insert(*last_seen);
            *last = (*last).max(*last_seen);
        }
    }
    if !minutes.is_empty() {
        sqlx::query(MINUTES)
            .bind(minutes.keys().map(|place| place.0).collect::<Vec<_>>())
            .bind(minutes.keys().map(|place| Moment(place.1)).collect::<Vec<_>>())
            .bind(minutes.keys().map(|place| place.2).collect::<Vec<_>>())
            .bind(minutes.values().map(|minute| minute.count).collect::<Vec<_>>())
            .bind(minutes.values().map(|minute| minute.sum.is_finite().then_some(minute.sum)).collect::<Vec<_>>())
            .bind(minutes.values().map(|minute| minute.anomalies).collect::<Vec<_>>())
            .bind(minutes.values().map(|minute| minute.measured).collect::<Vec<_>>())
            .execute(&mut *connection)
            .await?;
    }
    let mut moved: BTreeMap<(&str, String), i64> = BTreeMap::new();
    for ((stream, key), last_seen) in seen {
        let name: Arc<str> = stream.into();
        if let Some(minute) = stored.advance(&name, key, last_seen) {
            let last = moved.entry((stream, clean(key))).or_insert(minute);
            *last = (*last).max(minute);
        }
    }
    if moved.is_empty() {
        return Ok(());
    }
    sqlx::query(KEYS)
        .bind(moved.keys().map(|place| place.0).collect::<Vec<_>>())
        .bind(moved.keys().map(|place| place.1.as_str()).collect::<Vec<_>>())
        .bind(moved.values().map(|minute| Moment(*minute)).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map(drop)
}
