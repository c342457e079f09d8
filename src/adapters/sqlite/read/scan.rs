//! A walk over one index, newest first, from a cursor, with a bounded amount of work.

use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};
use streamward_core::{
    ports::{Counting, Page, PageRequest, ReadError},
    schema::{Decimal, Kind, instant},
};

use super::{
    cursor::{self, Bind},
    read_error,
};

/// Most rows that one page looks at where a condition is not served by the index.
pub(super) const SCAN_LIMIT: u32 = 5_000;
/// Totals are counted up to here.
pub(super) const COUNT_LIMIT: u32 = 5_000;

/// A condition on one column.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Condition {
    Compare {
        column: String,
        operator: &'static str,
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
    pub(super) fn equals(column: &str, value: Bind) -> Self {
        Self::Compare { column: column.to_owned(), operator: " = ", value }
    }

    fn write(&self, sql: &mut QueryBuilder<Sqlite>) {
        match self {
            Self::Compare { column, operator, value } => {
                sql.push(quoted(column)).push(operator);
                bind(sql, value);
            }
            Self::Flag(column) => {
                sql.push(quoted(column));
            }
            Self::Null(column) => {
                sql.push(quoted(column)).push(" IS NULL");
            }
            Self::Newest => {
                sql.push("latest = 1");
            }
        }
    }
}

/// A column that the list is ordered by (all descending); together they are unique.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Order {
    pub(super) column: String,
    pub(super) kind: Kind,
}

/// What to walk over.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) table: String,
    /// Index to walk, where several would do and the planner may not choose.
    pub(super) index: Option<&'static str>,
    /// Where the list begins, as a condition on its first order column; a cursor is beyond it.
    pub(super) from: Option<Condition>,
    /// The select list, as SQL.
    pub(super) select: String,
    /// Conditions that the index serves.
    pub(super) seek: Vec<Condition>,
    /// Conditions that are tried on each row walked over.
    pub(super) keep: Vec<Condition>,
    pub(super) order: Vec<Order>,
}

/// Rows of one page, before they become items.
pub(super) struct Walked {
    pub(super) rows: Vec<SqliteRow>,
    pub(super) total: u64,
    pub(super) total_is_estimate: bool,
    pub(super) next: Option<String>,
}

impl Walked {
    pub(super) fn into_page<T>(
        self,
        item: impl FnMut(&SqliteRow) -> Result<T, sqlx::Error>,
    ) -> Result<Page<T>, ReadError> {
        let items = self.rows.iter().map(item).collect::<Result<_, _>>().map_err(read_error)?;
        Ok(Page { items, total: self.total, total_is_estimate: self.total_is_estimate, next: self.next })
    }
}

impl Scan {
    pub(super) fn from(self, from: Option<Condition>) -> Self {
        Self { from, ..self }
    }

    /// Reads one page.
    pub(super) async fn page(
        &self,
        connection: &mut SqliteConnection,
        page: &PageRequest,
    ) -> Result<Walked, ReadError> {
        let after = match &page.cursor {
            Some(text) => Some(cursor::decode(text, self.order.len())?),
            None => None,
        };
        let limit = page.limit as usize;
        let mut sql = self.rows_sql(after.as_deref(), page.limit + 1);
        let mut rows = sql.build().fetch_all(&mut *connection).await.map_err(read_error)?;
        let next = if rows.len() > limit {
            rows.truncate(limit);
            rows.last().map(|row| self.place_of(row)).transpose().map_err(read_error)?
        } else {
            self.end_of_scan(connection, after.as_deref()).await?
        };
        let next = next.map(|place| cursor::encode(&place));
        let (total, total_is_estimate) = match page.counting {
            Counting::Skip => (0, false),
            Counting::Bounded if self.keep.is_empty() => self.count(connection).await?,
            Counting::Bounded => self.count_kept(connection).await?,
        };
        Ok(Walked { rows, total, total_is_estimate, next })
    }

    /// The statement that reads a page.
    pub(super) fn rows_sql(&self, after: Option<&[Bind]>, limit: u32) -> QueryBuilder<Sqlite> {
        if self.keep.is_empty() {
            let mut sql = QueryBuilder::new("");
            self.write_walk(&mut sql, &self.select, after);
            sql.push(" LIMIT ").push_bind(i64::from(limit));
            return sql;
        }
        let mut sql = QueryBuilder::new("SELECT * FROM (");
        self.write_walk(&mut sql, &self.select, after);
        sql.push(" LIMIT ").push_bind(i64::from(SCAN_LIMIT)).push(") WHERE ");
        write_all(&mut sql, &self.keep);
        sql.push(" LIMIT ").push_bind(i64::from(limit));
        sql
    }

    fn write_walk(&self, sql: &mut QueryBuilder<Sqlite>, select: &str, after: Option<&[Bind]>) {
        let columns = self.order_columns();
        sql.push("SELECT ").push(select).push(" FROM ").push(self.source());
        // A cursor bounds the walk more tightly, and SQLite takes only one bound of an index.
        let from = self.from.as_ref().filter(|_| after.is_none());
        if !self.seek.is_empty() || from.is_some() || after.is_some() {
            sql.push(" WHERE ");
        }
        write_all(sql, self.seek.iter().chain(from));
        if let Some(place) = after {
            if !self.seek.is_empty() {
                sql.push(" AND ");
            }
            sql.push("(").push(columns.join(", ")).push(") < (");
            for (index, value) in place.iter().enumerate() {
                sql.push(if index == 0 { "" } else { ", " });
                bind(sql, value);
            }
            sql.push(")");
        }
        sql.push(" ORDER BY ")
            .push(columns.iter().map(|column| format!("{column} DESC")).collect::<Vec<_>>().join(", "));
    }

    /// The place of the last row that the scan looked at, if its limit was what ended it.
    async fn end_of_scan(
        &self,
        connection: &mut SqliteConnection,
        after: Option<&[Bind]>,
    ) -> Result<Option<Vec<Bind>>, ReadError> {
        if self.keep.is_empty() {
            return Ok(None);
        }
        let mut sql = QueryBuilder::new("");
        self.write_walk(&mut sql, &self.order_columns().join(", "), after);
        sql.push(" LIMIT 1 OFFSET ").push_bind(i64::from(SCAN_LIMIT - 1));
        let row = sql.build().fetch_optional(connection).await.map_err(read_error)?;
        row.map(|row| self.place_of(&row)).transpose().map_err(read_error)
    }

    /// Length of the list, counted up to [`COUNT_LIMIT`], and whether it is at least that long.
    async fn count(&self, connection: &mut SqliteConnection) -> Result<(u64, bool), ReadError> {
        let mut sql = QueryBuilder::new("SELECT COUNT(*) FROM (SELECT 1 FROM ");
        sql.push(self.source());
        if !self.seek.is_empty() || self.from.is_some() {
            sql.push(" WHERE ");
            write_all(&mut sql, self.seek.iter().chain(&self.from));
        }
        sql.push(" LIMIT ").push_bind(i64::from(COUNT_LIMIT) + 1).push(")");
        let (count,): (i64,) = sql.build_query_as().fetch_one(connection).await.map_err(read_error)?;
        let over = count > i64::from(COUNT_LIMIT);
        Ok((u64::try_from(count).unwrap_or(0).min(u64::from(COUNT_LIMIT)), over))
    }

    /// How many of the first [`SCAN_LIMIT`] rows walked over are kept, and whether the walk goes on behind them: the
    /// list is then at least that long.
    async fn count_kept(&self, connection: &mut SqliteConnection) -> Result<(u64, bool), ReadError> {
        let mut sql = QueryBuilder::new("SELECT COUNT(*) FILTER (WHERE ");
        write_all(&mut sql, &self.keep);
        sql.push("), COUNT(*) FROM (");
        self.write_walk(&mut sql, &self.select, None);
        sql.push(" LIMIT ").push_bind(i64::from(SCAN_LIMIT)).push(")");
        let (kept, walked): (i64, i64) = sql.build_query_as().fetch_one(connection).await.map_err(read_error)?;
        Ok((u64::try_from(kept).unwrap_or(0), walked >= i64::from(SCAN_LIMIT)))
    }

    fn place_of(&self, row: &SqliteRow) -> Result<Vec<Bind>, sqlx::Error> {
        let place = self.order.iter().map(|order| {
            let column = order.column.as_str();
            Ok(match order.kind {
                Kind::Boolean | Kind::Int | Kind::Long | Kind::Timestamp => Bind::Integer(row.try_get(column)?),
                Kind::Float | Kind::Double => Bind::Number(row.try_get(column)?),
                Kind::String | Kind::Enum(_) | Kind::Decimal { .. } => Bind::Text(row.try_get(column)?),
            })
        });
        place.collect()
    }

    fn source(&self) -> String {
        let table = quoted(&self.table);
        self.index.map_or(table.clone(), |index| format!("{table} INDEXED BY {index}"))
    }

    fn order_columns(&self) -> Vec<String> {
        self.order.iter().map(|order| quoted(&order.column)).collect()
    }
}

fn write_all<'a>(sql: &mut QueryBuilder<Sqlite>, conditions: impl IntoIterator<Item = &'a Condition>) {
    for (index, condition) in conditions.into_iter().enumerate() {
        if index > 0 {
            sql.push(" AND ");
        }
        condition.write(sql);
    }
}

fn bind(sql: &mut QueryBuilder<Sqlite>, value: &Bind) {
    match value {
        Bind::Integer(number) => sql.push_bind(*number),
        Bind::Number(number) => sql.push_bind(*number),
        Bind::Text(text) => sql.push_bind(text.clone()),
    };
}

/// An identifier as SQL.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The text of a filter as a value of the column's type; `None` where no value of that type reads so. A time is what rows
/// show (RFC 3339), or milliseconds since 1970; a decimal may be written with fewer or more zeros than rows show.
pub(super) fn parse(kind: &Kind, text: &str) -> Option<Bind> {
    match kind {
        Kind::Boolean => text.parse::<bool>().ok().map(|value| Bind::Integer(value.into())),
        Kind::Int | Kind::Long => text.parse().ok().map(Bind::Integer),
        Kind::Timestamp => text.parse().ok().or_else(|| instant::parse(text)).map(Bind::Integer),
        Kind::Float | Kind::Double => text.parse().ok().map(Bind::Number),
        Kind::String | Kind::Enum(_) => Some(Bind::Text(text.to_owned())),
        Kind::Decimal { precision, scale } => {
            let unscaled = Decimal::parse_as(text, *precision, *scale).ok()?;
            Some(Bind::Text(Decimal { unscaled, scale: *scale }.to_string()))
        }
    }
}
