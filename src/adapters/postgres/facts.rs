//! Facts of outputs beside their rows: dead letters, alerts, late records, filtered ranges, decisions.

use std::{
    collections::{HashMap, HashSet},
    ops::Range,
};

use sqlx::PgConnection;
use streamward_core::output::{AlertState, AlertTransition, DeadLetter, ranges};
use streamward_pipeline::store::Pending;

use super::{
    connection::WriteError,
    ledger::{self, Kind},
    moment::Moment,
    names::clean,
    orphans,
    positions::Positions,
};
use crate::adapters::{headers, refused, unjudged};

/// Kinds of decisions.
pub const DEAD: &str = "dead";
const AHEAD: &str = "ahead";

/// Continues the newest filtered range of a partition's log, or begins another.
const FILTERED: &str = "WITH extended AS (UPDATE sw_ranges SET next_offset = $6, stored_at = $7 WHERE sink = $1 \
     AND topic = $2 AND partition = $3 AND log = $4 AND kind = 'filtered' AND next_offset = $5 AND first_offset = \
     (SELECT max(first_offset) FROM sw_ranges WHERE sink = $1 AND topic = $2 AND partition = $3 AND log = $4 \
     AND kind = 'filtered' AND first_offset < $5) RETURNING 1) \
     INSERT INTO sw_ranges SELECT $1, $2, $3, $4, 'filtered', $5, $6, $7 WHERE NOT EXISTS (SELECT FROM extended)";

const MORE_FILTERED: &str = "INSERT INTO sw_ranges SELECT $1, $2, $3, $4, 'filtered', first_offset, next_offset, $7 \
     FROM unnest($5::bigint[], $6::bigint[]) AS r(first_offset, next_offset)";

const DECISIONS: &str = "INSERT INTO sw_decisions SELECT $1, $2, $3, $4, first_offset, next_offset, kind \
     FROM unnest($5::bigint[], $6::bigint[], $7::text[]) AS d(first_offset, next_offset, kind)";

const LATE: &str = "INSERT INTO sw_late (sink, \"window\", topic, partition, log, \"offset\", event_time, window_start, \
     watermark, why, created_at) SELECT *, $11::timestamptz FROM unnest($1::text[], $2::text[], $3::text[], $4::integer[], \
     $5::bigint[], $6::bigint[], $7::timestamptz[], $8::timestamptz[], $9::timestamptz[], $10::text[])";

const ALERTS: &str = "INSERT INTO alerts (id, alert_id, n, rule, stream, \"key\", severity, state, message, record, \
     event_time, topic, partition, \"offset\", latest, sink, log, opened, created_at) \
     SELECT *, $19::timestamptz FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[], $5::text[], $6::text[], \
     $7::text[], $8::text[], $9::text[], $10::text[], $11::timestamptz[], $12::text[], $13::integer[], $14::bigint[], \
     $15::boolean[], $16::text[], $17::bigint[], $18::bigint[])";

/// Ends what was the newest transition of alerts that fire.
const SUPERSEDE: &str = "UPDATE alerts SET latest = false WHERE alert_id = ANY($1) AND latest AND state = 'firing' \
     RETURNING alert_id, opened";
const KNOWN: &str = "SELECT DISTINCT alert_id FROM alerts WHERE alert_id = ANY($1)";

const DEAD_LETTERS: &str = "INSERT INTO dead_letters (id, sink, topic, partition, log, \"offset\", stage, class, reason, \
     \"key\", value, headers, log_timestamp, created_at) SELECT *, $14::timestamptz FROM unnest($1::bigint[], $2::text[], \
     $3::text[], $4::integer[], $5::bigint[], $6::bigint[], $7::text[], $8::text[], $9::text[], $10::bytea[], \
     $11::bytea[], $12::bytea[], $13::timestamptz[])";

const OUTBOX: &str =
    "INSERT INTO sw_outbox SELECT $1, sink, fact FROM unnest($2::text[], $3::bigint[]) AS o(sink, fact)";

/// An output and the stream that its rows are of.
pub type OfStream<'a> = (&'a Pending, &'a str);

/// The word that a unit variant is stored as.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Ranges without rows and decisions of the outputs of one partition's log, in their order.
///
/// # Errors
/// Of the database.
pub async fn places(connection: &mut PgConnection, outputs: &[&Pending], now_ms: i64) -> Result<(), sqlx::Error> {
    let Some(first) = outputs.first() else { return Ok(()) };
    let (key, log, now) = (&first.key, first.log, Moment(now_ms));
    let mut filtered: Vec<Range<i64>> = Vec::new();
    for range in outputs.iter().flat_map(|pending| &pending.output.filtered) {
        match filtered.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            Some(_) | None => filtered.push(range.clone()),
        }
    }
    if let Some((first, more)) = filtered.split_first() {
        let of_log =
            |sql: &'static str| sqlx::query(sql).bind(&*key.sink).bind(&*key.topic).bind(key.partition).bind(log);
        of_log(FILTERED).bind(first.start).bind(first.end).bind(now).execute(&mut *connection).await?;
        if !more.is_empty() {
            let (starts, ends): (Vec<i64>, Vec<i64>) = more.iter().map(|range| (range.start, range.end)).unzip();
            of_log(MORE_FILTERED).bind(starts).bind(ends).bind(now).execute(&mut *connection).await?;
        }
    }
    let mut decided: Vec<(Range<i64>, &str)> = Vec::new();
    for output in outputs.iter().map(|pending| &pending.output) {
        // The database refuses rows of records that were processed: they count as they did.
        let dead = output.dead.iter().filter(|letter| letter.stage != refused::STAGE).map(|letter| letter.offset);
        decided.extend(ranges(dead).into_iter().map(|range| (range, DEAD)));
        decided.extend(ranges(output.ahead.iter().copied()).into_iter().map(|range| (range, AHEAD)));
    }
    if decided.is_empty() {
        return Ok(());
    }
    sqlx::query(DECISIONS)
        .bind(&*key.sink)
        .bind(&*key.topic)
        .bind(key.partition)
        .bind(log)
        .bind(decided.iter().map(|(range, _)| range.start).collect::<Vec<_>>())
        .bind(decided.iter().map(|(range, _)| range.end).collect::<Vec<_>>())
        .bind(decided.iter().map(|(_, kind)| *kind).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map(drop)
}

/// Notes which records windows missed.
///
/// # Errors
/// Of the database.
pub async fn late(connection: &mut PgConnection, outputs: &[OfStream<'_>], now_ms: i64) -> Result<(), sqlx::Error> {
    let missed: Vec<_> = outputs
        .iter()
        .flat_map(|(pending, _)| pending.output.missed.iter().map(move |missed| (&pending.key, pending.log, missed)))
        .collect();
    if missed.is_empty() {
        return Ok(());
    }
    sqlx::query(LATE)
        .bind(missed.iter().map(|(key, _, _)| &*key.sink).collect::<Vec<_>>())
        .bind(missed.iter().map(|(_, _, missed)| &*missed.window).collect::<Vec<_>>())
        .bind(missed.iter().map(|(key, _, _)| &*key.topic).collect::<Vec<_>>())
        .bind(missed.iter().map(|(key, _, _)| key.partition).collect::<Vec<_>>())
        .bind(missed.iter().map(|(_, log, _)| *log).collect::<Vec<_>>())
        .bind(missed.iter().map(|(_, _, missed)| missed.offset).collect::<Vec<_>>())
        .bind(missed.iter().map(|(_, _, missed)| Moment(missed.event_time_ms)).collect::<Vec<_>>())
        .bind(missed.iter().map(|(_, _, missed)| Moment(missed.window_start_ms)).collect::<Vec<_>>())
        .bind(missed.iter().map(|(_, _, missed)| Moment(missed.watermark_ms)).collect::<Vec<_>>())
        .bind(missed.iter().map(|(_, _, missed)| word(&missed.why)).collect::<Vec<_>>())
        .bind(Moment(now_ms))
        .execute(&mut *connection)
        .await?;
    ledger::take(connection, Kind::Late, (0, count(missed.len()) * Kind::Late.fixed_bytes())).await.map(drop)
}

/// A transition that is stored.
struct Transition<'a> {
    of: OfStream<'a>,
    alert: &'a AlertTransition,
    record: String,
    latest: bool,
    /// Number of the transition with which it fired first; none if that is this one.
    opened: Option<Opened>,
}

/// Where an alert fired first.
#[derive(Clone, Copy)]
enum Opened {
    Stored(i64),
    /// In this transaction, as the transition at this place.
    Here(usize),
}

/// The newest transition of an alert.
struct Newest {
    opened: Opened,
    is_firing: bool,
    /// Its place among those of this transaction.
    place: Option<usize>,
}

/// Stores the transitions of alerts; says whether there is something to announce. Alerts of a log that is not the
/// partition's any more are resolved at once.
///
/// # Errors
/// Of the database.
pub async fn alerts(
    connection: &mut PgConnection,
    outputs: &[OfStream<'_>],
    positions: &Positions,
    now_ms: i64,
) -> Result<bool, WriteError> {
    let later = outputs.iter().flat_map(|(pending, _)| &pending.output.alerts).filter(|alert| alert.n > 0);
    let later: Vec<&str> = later.map(|alert| alert.alert_id.as_str()).collect();
    let (mut newest, mut known) = (HashMap::new(), HashSet::new());
    if !later.is_empty() {
        known = sqlx::query_scalar::<_, String>(KNOWN)
            .bind(&later)
            .fetch_all(&mut *connection)
            .await?
            .into_iter()
            .collect();
        let firing: Vec<(String, i64)> = sqlx::query_as(SUPERSEDE).bind(&later).fetch_all(&mut *connection).await?;
        let stored = |opened| Newest { opened: Opened::Stored(opened), is_firing: true, place: None };
        newest = firing.into_iter().map(|(id, opened)| (id, stored(opened))).collect();
    }
    let stored = transitions(outputs, newest, known);
    if stored.is_empty() {
        return Ok(false);
    }
    let bytes = stored.iter().map(|one| count(one.alert.message.len() + one.record.len()) + Kind::Alert.fixed_bytes());
    let first = ledger::take(connection, Kind::Alert, (count(stored.len()), bytes.sum())).await?;
    insert_alerts(connection, &stored, first, now_ms).await?;
    let (sinks, ids): (Vec<&str>, Vec<i64>) =
        stored.iter().zip(first..).map(|(one, id)| (&*one.of.0.key.sink, id)).unzip();
    announce(connection, Kind::Alert, (sinks, ids)).await?;
    let orphans: Vec<(i64, String)> = stored
        .iter()
        .zip(first..)
        .filter(|(one, _)| one.alert.state == AlertState::Firing && positions.is_superseded(one.of.0))
        .map(|(one, id)| (id, unjudged::other_log(&one.of.0.key.topic)))
        .collect();
    orphans::resolve(connection, &orphans).await?;
    Ok(true)
}

/// The transitions that are stored, in their order. One is left out whose alert the server has resolved itself, when its
/// log or its rule was gone.
fn transitions<'a>(
    outputs: &[OfStream<'a>],
    mut newest: HashMap<String, Newest>,
    mut known: HashSet<String>,
) -> Vec<Transition<'a>> {
    let mut stored: Vec<Transition<'a>> = Vec::new();
    for of in outputs {
        for alert in &of.0.output.alerts {
            let place = stored.len();
            let before = newest.get(&alert.alert_id).filter(|newest| newest.is_firing && alert.n > 0);
            let opened = match before {
                Some(before) => {
                    if let Some(earlier) = before.place.and_then(|place| stored.get_mut(place)) {
                        earlier.latest = false;
                    }
                    Some(before.opened)
                }
                None if alert.n > 0 && known.contains(&alert.alert_id) => continue,
                None => None,
            };
            let is_firing = alert.state == AlertState::Firing;
            let now = Newest { opened: opened.unwrap_or(Opened::Here(place)), is_firing, place: Some(place) };
            newest.insert(alert.alert_id.clone(), now);
            known.insert(alert.alert_id.clone());
            stored.push(Transition { of: *of, alert, record: alert.record.to_string(), latest: true, opened });
        }
    }
    stored
}

async fn insert_alerts(
    connection: &mut PgConnection,
    stored: &[Transition<'_>],
    first: i64,
    now_ms: i64,
) -> Result<(), sqlx::Error> {
    let opened = |(place, one): (usize, &Transition<'_>)| match one.opened {
        Some(Opened::Stored(id)) => id,
        Some(Opened::Here(place)) => first + count(place),
        None => first + count(place),
    };
    let text = |text: fn(&Transition<'_>) -> String| stored.iter().map(text).collect::<Vec<_>>();
    sqlx::query(ALERTS)
        .bind((first..).take(stored.len()).collect::<Vec<_>>())
        .bind(text(|one| one.alert.alert_id.clone()))
        .bind(stored.iter().map(|one| one.alert.n).collect::<Vec<_>>())
        .bind(text(|one| one.alert.rule.to_string()))
        .bind(text(|one| one.of.1.to_owned()))
        .bind(stored.iter().map(|one| one.alert.key.as_deref().map(clean)).collect::<Vec<_>>())
        .bind(text(|one| one.alert.severity.to_string()))
        .bind(text(|one| word(&one.alert.state)))
        .bind(text(|one| clean(&one.alert.message)))
        .bind(text(|one| one.record.clone()))
        .bind(stored.iter().map(|one| Moment(one.alert.event_time_ms)).collect::<Vec<_>>())
        .bind(text(|one| one.of.0.key.topic.to_string()))
        .bind(stored.iter().map(|one| one.of.0.key.partition).collect::<Vec<_>>())
        .bind(stored.iter().map(|one| one.alert.offset).collect::<Vec<_>>())
        .bind(stored.iter().map(|one| one.latest).collect::<Vec<_>>())
        .bind(text(|one| one.of.0.key.sink.to_string()))
        .bind(stored.iter().map(|one| one.of.0.log).collect::<Vec<_>>())
        .bind(stored.iter().enumerate().map(opened).collect::<Vec<_>>())
        .bind(Moment(now_ms))
        .execute(connection)
        .await
        .map(drop)
}

/// Stores dead letters; says whether there is something to announce.
///
/// # Errors
/// Of the database.
pub async fn dead_letters(
    connection: &mut PgConnection,
    outputs: &[OfStream<'_>],
    now_ms: i64,
) -> Result<bool, sqlx::Error> {
    let letters =
        outputs.iter().flat_map(|(pending, _)| pending.output.dead.iter().map(move |letter| (*pending, letter)));
    let letters: Vec<(&Pending, &DeadLetter)> = letters.collect();
    if letters.is_empty() {
        return Ok(false);
    }
    let stored_headers: Vec<Vec<u8>> = letters.iter().map(|(_, letter)| headers::to_json(&letter.headers)).collect();
    let length = |bytes: &Option<Vec<u8>>| bytes.as_ref().map_or(0, Vec::len);
    let bytes = letters.iter().zip(&stored_headers).map(|((_, letter), headers)| {
        let texts = length(&letter.key) + length(&letter.value) + headers.len() + letter.reason.len();
        count(texts) + Kind::DeadLetter.fixed_bytes()
    });
    let first = ledger::take(connection, Kind::DeadLetter, (count(letters.len()), bytes.sum())).await?;
    let ids: Vec<i64> = (first..).take(letters.len()).collect();
    let sinks: Vec<&str> = letters.iter().map(|(pending, _)| &*pending.key.sink).collect();
    sqlx::query(DEAD_LETTERS)
        .bind(&ids)
        .bind(&sinks)
        .bind(letters.iter().map(|(pending, _)| &*pending.key.topic).collect::<Vec<_>>())
        .bind(letters.iter().map(|(pending, _)| pending.key.partition).collect::<Vec<_>>())
        .bind(letters.iter().map(|(pending, _)| pending.log).collect::<Vec<_>>())
        .bind(letters.iter().map(|(_, letter)| letter.offset).collect::<Vec<_>>())
        .bind(letters.iter().map(|(_, letter)| clean(&letter.stage)).collect::<Vec<_>>())
        .bind(letters.iter().map(|(_, letter)| word(&letter.class)).collect::<Vec<_>>())
        .bind(letters.iter().map(|(_, letter)| clean(&letter.reason)).collect::<Vec<_>>())
        .bind(letters.iter().map(|(_, letter)| letter.key.as_deref()).collect::<Vec<_>>())
        .bind(letters.iter().map(|(_, letter)| letter.value.as_deref()).collect::<Vec<_>>())
        .bind(stored_headers)
        .bind(letters.iter().map(|(_, letter)| Moment(letter.log_timestamp_ms)).collect::<Vec<_>>())
        .bind(Moment(now_ms))
        .execute(&mut *connection)
        .await?;
    announce(connection, Kind::DeadLetter, (sinks, ids)).await?;
    Ok(true)
}

async fn announce(
    connection: &mut PgConnection,
    kind: Kind,
    (sinks, ids): (Vec<&str>, Vec<i64>),
) -> Result<(), sqlx::Error> {
    sqlx::query(OUTBOX).bind(kind.name()).bind(sinks).bind(ids).execute(connection).await.map(drop)
}
