//! Alerts and dead letters.

use std::collections::HashMap;

use serde_json::{Value, json};
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};
use streamward_core::{
    ports::{AlertQuery, DeadLetterQuery, DeadLetterRow, Page, ReadError, Row},
    schema::Kind,
    steps::rule::condition_of,
};

use super::{
    SqliteReads,
    cursor::Bind,
    read_error,
    rows::time,
    scan::{Condition, Order, Scan},
};

/// Bytes of a dead letter's value that a list shows.
const LISTED_VALUE_BYTES: u32 = 4_096;

/// Where an alert stands in lists: the number of its first transition, which no later one moves.
const ALERT_PLACE: &str = "opened";

const ALERT_COLUMNS: &str = "id, opened, alert_id, n, rule, stream, \"key\", severity, state, message, record, \
     event_time, topic, partition, \"offset\", created_at, undeliverable";

const DEAD_LETTER_COLUMNS: &str = "id, sink, topic, partition, \"offset\", stage, class, reason, state, \
     \"key\", COALESCE(length(value), 0) AS value_length, headers, log_timestamp, created_at, undeliverable";

impl SqliteReads {
    pub(super) async fn read_alerts(&self, query: AlertQuery) -> Result<Page<Row>, ReadError> {
        let mut connection = self.connection().await?;
        let walked = alert_scan(&query).page(&mut connection, &query.page).await?;
        let first = first_transitions(&mut connection, &walked.rows).await?;
        walked.into_page(|row| alert(row, &first))
    }

    pub(super) async fn read_dead_letters(&self, query: DeadLetterQuery) -> Result<Page<DeadLetterRow>, ReadError> {
        let mut connection = self.connection().await?;
        let walked = dead_letter_scan(&query).page(&mut connection, &query.page).await?;
        walked.into_page(dead_letter)
    }

    pub(super) async fn read_dead_letter(&self, id: i64) -> Result<Option<DeadLetterRow>, ReadError> {
        let mut connection = self.connection().await?;
        let mut sql = QueryBuilder::new("SELECT ");
        sql.push(DEAD_LETTER_COLUMNS).push(", value FROM dead_letters WHERE id = ").push_bind(id);
        let row = sql.build().fetch_optional(&mut *connection).await.map_err(read_error)?;
        row.as_ref().map(dead_letter).transpose().map_err(read_error)
    }
}

/// The walk over the newest transition of each alert: by rule, else severity, else state. Alerts are in the order in which
/// they fired first, so that one that resolves during a walk stays where it is.
pub(super) fn alert_scan(query: &AlertQuery) -> Scan {
    let (mut seek, keep) = by_first(&[("rule", &query.rule), ("severity", &query.severity), ("state", &query.state)]);
    seek.push(Condition::Newest);
    let index = match query {
        AlertQuery { rule: Some(_), .. } => "alerts_rule",
        AlertQuery { severity: Some(_), .. } => "alerts_severity",
        AlertQuery { state: Some(_), .. } => "alerts_state",
        AlertQuery { .. } => "alerts_latest",
    };
    let (table, select) = ("alerts".to_owned(), ALERT_COLUMNS.to_owned());
    Scan { table, index: Some(index), from: None, select, seek, keep, order: by(ALERT_PLACE) }
}

/// The walk over dead letters: by the record's place if all of it is given, else by topic, else class.
pub(super) fn dead_letter_scan(query: &DeadLetterQuery) -> Scan {
    let (mut seek, mut keep) = by_first(&[("topic", &query.topic), ("class", &query.class)]);
    let is_place = query.topic.is_some() && query.partition.is_some() && query.offset.is_some();
    let place = [("partition", query.partition), ("offset", query.offset)];
    let place = place.iter().filter_map(|(column, number)| Some(Condition::equals(column, Bind::Integer((*number)?))));
    let conditions = if is_place { &mut seek } else { &mut keep };
    conditions.extend(place);
    let select = format!("{DEAD_LETTER_COLUMNS}, substr(value, 1, {LISTED_VALUE_BYTES}) AS value");
    let index = is_place.then_some("dead_letters_place");
    Scan { table: "dead_letters".to_owned(), index, from: None, select, seek, keep, order: by("id") }
}

fn by(column: &str) -> Vec<Order> {
    vec![Order { column: column.to_owned(), kind: Kind::Long }]
}

/// The first filter that is given is served by its index, the others are tried row by row.
fn by_first(filters: &[(&str, &Option<String>)]) -> (Vec<Condition>, Vec<Condition>) {
    let mut given: Vec<_> = filters
        .iter()
        .filter_map(|(column, text)| text.as_ref().map(|text| Condition::equals(column, Bind::Text(text.clone()))))
        .collect();
    let keep = given.split_off(given.len().min(1));
    (given, keep)
}

/// A transition of an alert, as a list shows it.
struct Transition {
    event_time_ms: i64,
    created_at_ms: i64,
    offset: i64,
    message: String,
    record: Value,
}

impl Transition {
    fn of(row: &SqliteRow) -> Result<Self, sqlx::Error> {
        let record: String = row.try_get("record")?;
        Ok(Self {
            event_time_ms: row.try_get("event_time")?,
            created_at_ms: row.try_get("created_at")?,
            offset: row.try_get("offset")?,
            message: row.try_get("message")?,
            record: serde_json::from_str(&record).unwrap_or(Value::Null),
        })
    }

    fn to_json(&self) -> Value {
        json!({"event_time": time(self.event_time_ms), "created_at": time(self.created_at_ms), "offset": self.offset,
               "message": self.message, "record": self.record})
    }

    /// As the end of an alert that began with `first`. The server ends an alert without a record: its transition repeats
    /// the place of the one before.
    fn to_end_json(&self, first: &Self) -> Value {
        if self.offset != first.offset {
            let mut end = self.to_json();
            end["by"] = "record".into();
            return end;
        }
        json!({"by": "server", "event_time": null, "created_at": time(self.created_at_ms), "offset": null,
               "message": self.message, "record": null})
    }
}

/// The transitions with which alerts fired whose newest one is another; by number.
async fn first_transitions(
    connection: &mut SqliteConnection,
    rows: &[SqliteRow],
) -> Result<HashMap<i64, Transition>, ReadError> {
    let mut wanted = Vec::new();
    for row in rows {
        let (id, opened): (i64, i64) = (column(row, "id")?, column(row, ALERT_PLACE)?);
        if id != opened {
            wanted.push(opened);
        }
    }
    if wanted.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = first_sql(&wanted).build().fetch_all(connection).await.map_err(read_error)?;
    rows.iter().map(|row| Ok((column(row, "id")?, Transition::of(row).map_err(read_error)?))).collect()
}

fn column(row: &SqliteRow, name: &str) -> Result<i64, ReadError> {
    row.try_get(name).map_err(read_error)
}

/// The statement that reads transitions by their numbers.
pub(super) fn first_sql(ids: &[i64]) -> QueryBuilder<Sqlite> {
    let mut sql =
        QueryBuilder::new("SELECT id, message, record, event_time, \"offset\", created_at FROM alerts WHERE id IN (");
    let mut list = sql.separated(", ");
    for id in ids {
        list.push_bind(*id);
    }
    sql.push(")");
    sql
}

/// An alert with its newest transition, and the two with which it fired and was resolved apart.
fn alert(row: &SqliteRow, first: &HashMap<i64, Transition>) -> Result<Row, sqlx::Error> {
    let mut object = Row::new();
    for column in ["alert_id", "rule", "stream", "severity", "state", "topic"] {
        object.insert(column.to_owned(), row.try_get::<String, _>(column)?.into());
    }
    for column in ["id", "n", "partition"] {
        object.insert(column.to_owned(), row.try_get::<i64, _>(column)?.into());
    }
    let key: Option<String> = row.try_get("key")?;
    let newest = Transition::of(row)?;
    let fired = match row.try_get::<i64, _>(ALERT_PLACE)? {
        opened if opened == row.try_get::<i64, _>("id")? => Some(&newest),
        opened => first.get(&opened),
    };
    let is_resolved = row.try_get::<String, _>("state")? == "resolved";
    let resolved = is_resolved.then(|| newest.to_end_json(fired.unwrap_or(&newest)));
    object.insert("condition".to_owned(), fired.and_then(|fired| condition_of(&fired.message, key.as_deref())).into());
    object.insert("key".to_owned(), key.into());
    object.insert("fired".to_owned(), fired.map(Transition::to_json).into());
    object.insert("resolved".to_owned(), resolved.into());
    if let Value::Object(newest) = newest.to_json() {
        object.extend(newest);
    }
    let undeliverable: Option<String> = row.try_get("undeliverable")?;
    object.insert("undeliverable".to_owned(), undeliverable.into());
    Ok(object)
}

fn dead_letter(row: &SqliteRow) -> Result<DeadLetterRow, sqlx::Error> {
    let headers: Vec<u8> = row.try_get("headers")?;
    let value_length: i64 = row.try_get("value_length")?;
    Ok(DeadLetterRow {
        id: row.try_get("id")?,
        sink: row.try_get("sink")?,
        topic: row.try_get("topic")?,
        partition: row.try_get("partition")?,
        offset: row.try_get("offset")?,
        stage: row.try_get("stage")?,
        class: row.try_get("class")?,
        reason: row.try_get("reason")?,
        state: row.try_get("state")?,
        key: row.try_get("key")?,
        value: row.try_get("value")?,
        value_length: u64::try_from(value_length).unwrap_or(0),
        headers: serde_json::from_slice(&headers).unwrap_or(Value::Null),
        log_timestamp_ms: row.try_get("log_timestamp")?,
        created_at_ms: row.try_get("created_at")?,
        undeliverable: row.try_get("undeliverable")?,
    })
}
