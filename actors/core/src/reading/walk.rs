//! Walks over one index, newest first, from a cursor, with a bounded amount of work: which one answers a question.

use super::{
    cursor::{Bind, encode},
    figures::latest_ms,
};
use crate::{
    ports::{AlertQuery, DeadLetterQuery, Page, ReadError, RowQuery, WindowQuery},
    schema::{Decimal, Kind, instant},
    table::{Column, StreamTable, WindowTable},
};

/// Most rows that one page looks at where a condition is not served by the index.
pub const SCAN_LIMIT: u32 = 5_000;
/// Totals are counted up to here.
pub const COUNT_LIMIT: u32 = 5_000;
/// Bytes of a dead letter's value that a list shows.
pub const LISTED_VALUE_BYTES: u32 = 4_096;
/// Where an alert stands in lists: the number of its first transition, which no later one moves.
pub const ALERT_PLACE: &str = "opened";
/// A window row's own number.
pub const WINDOW_ROW: &str = "sw_row";

/// How a column compares to a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    Equal,
    AtLeast,
    AtMost,
    Below,
}

impl Comparison {
    /// In SQL.
    #[must_use]
    pub fn symbol(self) -> &'static str {
        match self {
            Self::Equal => " = ",
            Self::AtLeast => " >= ",
            Self::AtMost => " <= ",
            Self::Below => " < ",
        }
    }
}

/// A condition on one column.
#[derive(Debug, Clone, PartialEq)]
pub enum Condition {
    Compare {
        column: String,
        comparison: Comparison,
        value: Bind,
    },
    /// A boolean column that is true.
    Flag(String),
    /// A column without a value.
    Null(String),
    /// The newest transition of an alert; a literal, as the partial indexes demand.
    Newest,
}

impl Condition {
    /// The column has that value.
    #[must_use]
    pub fn equals(column: &str, value: Bind) -> Self {
        Self::compare(column, Comparison::Equal, value)
    }

    fn compare(column: &str, comparison: Comparison, value: Bind) -> Self {
        Self::Compare { column: column.to_owned(), comparison, value }
    }
}

/// A column that the list is ordered by (all descending); together they are unique.
#[derive(Debug, Clone, PartialEq)]
pub struct Order {
    pub column: String,
    pub kind: Kind,
}

impl Order {
    /// By a column of that type.
    #[must_use]
    pub fn by(column: &str, kind: Kind) -> Self {
        Self { column: column.to_owned(), kind }
    }
}

/// What to walk over.
#[derive(Debug)]
pub struct Walk {
    pub table: String,
    /// Index to walk, where several would do and the planner may not choose.
    pub index: Option<&'static str>,
    /// Where the list begins, as a condition on its first order column; a cursor is beyond it.
    pub from: Option<Condition>,
    /// The select list, in the database's language.
    pub select: String,
    /// Conditions that the index serves.
    pub seek: Vec<Condition>,
    /// Conditions that are tried on each row walked over.
    pub keep: Vec<Condition>,
    pub order: Vec<Order>,
}

impl Walk {
    /// The same with another beginning.
    #[must_use]
    pub fn from(self, from: Option<Condition>) -> Self {
        Self { from, ..self }
    }
}

/// Rows of one page, before they become items.
#[derive(Debug)]
pub struct Walked<R> {
    pub rows: Vec<R>,
    pub total: u64,
    pub total_is_estimate: bool,
    /// Place of the last row looked at, if the list goes on.
    pub next: Option<Vec<Bind>>,
}

impl<R> Walked<R> {
    /// The page of the items that `item` makes of the rows.
    ///
    /// # Errors
    /// The first one of `item`.
    pub fn into_page<T, E>(self, item: impl FnMut(&R) -> Result<T, E>) -> Result<Page<T>, E> {
        let items = self.rows.iter().map(item).collect::<Result<_, _>>()?;
        let next = self.next.map(|place| encode(&place));
        Ok(Page { items, total: self.total, total_is_estimate: self.total_is_estimate, next })
    }
}

/// Event times that are not ahead of the present.
#[must_use]
pub fn present(table: &StreamTable, now_ms: i64) -> Condition {
    let latest = Bind::Moment(latest_ms(table, now_ms));
    Condition::compare(&table.columns[table.event_time].name, Comparison::AtMost, latest)
}

/// The walk for `latest`: by the index of one filter column, the others tried row by row.
#[must_use]
pub fn latest(table: &StreamTable, mut filters: Vec<Condition>) -> Walk {
    let served = |condition: &Condition| match condition {
        Condition::Compare { column, .. } | Condition::Null(column) => {
            let is = |index: &usize| table.columns[*index].name == *column;
            usize::from(is(&table.key)) * 2 + usize::from(table.indexes.iter().any(is))
        }
        Condition::Flag(_) | Condition::Newest => 0,
    };
    filters.sort_by_key(|condition| std::cmp::Reverse(served(condition)));
    let by_index = usize::from(filters.first().is_some_and(|best| served(best) > 0));
    let keep = filters.split_off(by_index);
    Walk { seek: filters, keep, ..rows(table) }
}

/// The walk for `anomalies`: by the partial index of labelled rows.
#[must_use]
pub fn anomalies(table: &StreamTable, label: usize, keep: Vec<Condition>) -> Walk {
    let label = Condition::Flag(table.columns[label].name.clone());
    Walk { seek: vec![label], keep, ..rows(table) }
}

fn rows(table: &StreamTable) -> Walk {
    let own = ["id", "stored_at"].into_iter();
    let names = own.chain(table.columns.iter().map(|column| column.name.as_str()));
    Walk {
        table: table.table.clone(),
        index: None,
        from: None,
        select: list(names),
        seek: Vec::new(),
        keep: Vec::new(),
        order: vec![Order::by(&table.columns[table.event_time].name, Kind::Timestamp), Order::by("id", Kind::Long)],
    }
}

/// The filters as conditions; `None` where a value cannot occur in its column.
///
/// # Errors
/// [`ReadError::BadFilter`] of a column that the stream does not have.
pub fn conditions(table: &StreamTable, query: &RowQuery) -> Result<Option<Vec<Condition>>, ReadError> {
    let key = query.key.iter().map(|text| (table.columns[table.key].name.as_str(), text));
    let named = query.filters.iter().map(|(column, text)| (column.as_str(), text));
    let known = |name: &str| {
        Column::named(&table.columns, name).map_err(|reason| ReadError::BadFilter { field: name.to_owned(), reason })
    };
    let mut conditions = Vec::new();
    for (column, text) in key.chain(named) {
        let found = known(column)?;
        match parse(&found.kind, text) {
            Some(value) => conditions.push(Condition::equals(&found.name, value)),
            None => return Ok(None),
        }
    }
    for column in &query.nulls {
        conditions.push(Condition::Null(known(column)?.name.clone()));
    }
    Ok(Some(conditions))
}

/// The walk over the windows by start, then by the row's own number; `None` where a group cannot occur.
///
/// # Errors
/// [`ReadError::BadFilter`] of a column by which the window is not grouped.
pub fn windows(table: &WindowTable, query: &WindowQuery, select: String) -> Result<Option<Walk>, ReadError> {
    let mut keep = Vec::new();
    let known = |name: &String| {
        let reason = "the window is not grouped by it".to_owned();
        Column::named(&table.group, name).map_err(|_| ReadError::BadFilter { field: name.clone(), reason })
    };
    for (name, text) in &query.group {
        let column = known(name)?;
        match parse(&column.kind, text) {
            Some(value) => keep.push(Condition::equals(&column.name, value)),
            None => return Ok(None),
        }
    }
    for column in &query.nulls {
        keep.push(Condition::Null(known(column)?.name.clone()));
    }
    let bound = |comparison, ms| Condition::compare("window_start", comparison, Bind::Moment(ms));
    let from = query.from_ms.map(|ms| bound(Comparison::AtLeast, ms));
    let to = query.to_ms.map(|ms| bound(Comparison::Below, ms));
    Ok(Some(Walk {
        table: table.window.to_string(),
        index: None,
        from: None,
        select,
        seek: from.into_iter().chain(to).collect(),
        keep,
        order: vec![Order::by("window_start", Kind::Timestamp), Order::by(WINDOW_ROW, Kind::Long)],
    }))
}

/// The walk over the newest transition of each alert: by rule, else severity, else state. Alerts are in the order in which
/// they fired first, so that one that resolves during a walk stays where it is.
#[must_use]
pub fn alerts(query: &AlertQuery, select: String) -> Walk {
    let (mut seek, keep) = by_first(&[("rule", &query.rule), ("severity", &query.severity), ("state", &query.state)]);
    seek.push(Condition::Newest);
    let index = match query {
        AlertQuery { rule: Some(_), .. } => "alerts_rule",
        AlertQuery { severity: Some(_), .. } => "alerts_severity",
        AlertQuery { state: Some(_), .. } => "alerts_state",
        AlertQuery { .. } => "alerts_latest",
    };
    let order = vec![Order::by(ALERT_PLACE, Kind::Long)];
    Walk { table: "alerts".to_owned(), index: Some(index), from: None, select, seek, keep, order }
}

/// The walk over dead letters: by the record's place if all of it is given, else by topic, else class.
#[must_use]
pub fn dead_letters(query: &DeadLetterQuery, select: String) -> Walk {
    let (mut seek, mut keep) = by_first(&[("topic", &query.topic), ("class", &query.class)]);
    let is_place = query.topic.is_some() && query.partition.is_some() && query.offset.is_some();
    let place = [("partition", query.partition), ("offset", query.offset)];
    let place = place.iter().filter_map(|(column, number)| Some(Condition::equals(column, Bind::Integer((*number)?))));
    let conditions = if is_place { &mut seek } else { &mut keep };
    conditions.extend(place);
    let index = is_place.then_some("dead_letters_place");
    let order = vec![Order::by("id", Kind::Long)];
    Walk { table: "dead_letters".to_owned(), index, from: None, select, seek, keep, order }
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

/// The text of a filter as a value of the column's type; `None` where no value of that type reads so. A time is what rows
/// show (RFC 3339), or milliseconds since 1970.
#[must_use]
pub fn parse(kind: &Kind, text: &str) -> Option<Bind> {
    match kind {
        Kind::Boolean => text.parse().ok().map(Bind::Flag),
        Kind::Int | Kind::Long => text.parse().ok().map(Bind::Integer),
        Kind::Timestamp => text.parse().ok().or_else(|| instant::parse(text)).map(Bind::Moment),
        Kind::Float | Kind::Double => text.parse().ok().map(Bind::Number),
        Kind::String | Kind::Enum(_) => Some(Bind::Text(text.to_owned())),
        Kind::Decimal { precision, scale } => {
            let unscaled = Decimal::parse_as(text, *precision, *scale).ok()?;
            Some(Bind::Decimal(Decimal { unscaled, scale: *scale }))
        }
    }
}

/// An identifier in SQL.
#[must_use]
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Columns as a select list in SQL.
#[must_use]
pub fn list<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(quoted).collect::<Vec<_>>().join(", ")
}
