//! A walk over one index as PostgreSQL's statements, with a bounded amount of work.
//!
//! PostgreSQL takes no hint which index to walk: of `sensor = $1 ORDER BY time DESC LIMIT 10` it may walk the index of all
//! times until ten rows fit, which never ends for a rare sensor. So the columns that the index begins with are columns of
//! the order, too, and are bounded on both sides instead of equated: only that index has this order, and sorts are off
//! in these sessions.

use sqlx::{PgConnection, Postgres, QueryBuilder, Row as _, postgres::PgRow};
use streamward_core::{
    ports::{Counting, PageRequest, ReadError},
    reading::{
        cursor::{self, Bind},
        unsigned,
        walk::{COUNT_LIMIT, Comparison, Condition, SCAN_LIMIT, Walk, Walked, quoted},
    },
    schema::Kind,
};

use super::{
    super::{moment::Moment, names::clean, numeric::Numeric},
    read_error,
};

/// A walk that PostgreSQL is asked for.
pub(super) struct Scan(pub(super) Walk);

impl Scan {
    /// Whether a condition asks for a value that PostgreSQL has none of: text with a NUL, a time beyond its calendar.
    pub(super) fn asks_the_impossible(conditions: &[Condition]) -> bool {
        let values = conditions.iter().filter_map(|condition| match condition {
            Condition::Compare { value, .. } => Some(value),
            Condition::Flag(_) | Condition::Null(_) | Condition::Newest => None,
        });
        values.into_iter().any(|value| match value {
            Bind::Text(text) => text.contains('\0'),
            Bind::Moment(ms) => !Moment(*ms).is_in_range(),
            Bind::Flag(_) | Bind::Integer(_) | Bind::Number(_) | Bind::Decimal(_) => false,
        })
    }

    /// Reads one page.
    pub(super) async fn page(
        &self,
        connection: &mut PgConnection,
        page: &PageRequest,
    ) -> Result<Walked<PgRow>, ReadError> {
        let after = page.cursor.as_deref().map(|text| cursor::decode(text, &self.0.order)).transpose()?;
        let limit = page.limit as usize;
        let mut sql = self.rows_sql(after.as_deref(), page.limit.saturating_add(1));
        let mut rows = sql.build().fetch_all(&mut *connection).await.map_err(read_error)?;
        let next = if rows.len() > limit {
            rows.truncate(limit);
            rows.last().map(|row| self.place_of(row)).transpose().map_err(read_error)?
        } else {
            self.end_of_scan(connection, after.as_deref()).await?
        };
        let (total, total_is_estimate) = match page.counting {
            Counting::Skip => (0, false),
            Counting::Bounded if self.0.keep.is_empty() => self.count(connection).await?,
            Counting::Bounded => self.count_kept(connection).await?,
        };
        Ok(Walked { rows, total, total_is_estimate, next })
    }

    /// The statement that reads a page.
    pub(super) fn rows_sql(&self, after: Option<&[Bind]>, limit: u32) -> QueryBuilder<Postgres> {
        if self.0.keep.is_empty() {
            let mut sql = QueryBuilder::new("");
            self.write_walk(&mut sql, &self.0.select, after);
            sql.push(" LIMIT ").push_bind(i64::from(limit));
            return sql;
        }
        let mut sql = QueryBuilder::new("SELECT * FROM (");
        self.write_walk(&mut sql, &self.0.select, after);
        sql.push(format!(" LIMIT {SCAN_LIMIT}) AS walked WHERE "));
        write_all(&mut sql, &self.0.keep);
        sql.push(" LIMIT ").push_bind(i64::from(limit));
        sql
    }

    /// The statement that counts a list without conditions that are tried row by row.
    pub(super) fn count_sql(&self) -> QueryBuilder<Postgres> {
        let mut sql = QueryBuilder::new("SELECT count(*) FROM (");
        self.write_walk(&mut sql, "1", None);
        sql.push(format!(" LIMIT {}) AS walked", COUNT_LIMIT + 1));
        sql
    }

    fn write_walk(&self, sql: &mut QueryBuilder<Postgres>, select: &str, after: Option<&[Bind]>) {
        let walk = &self.0;
        let own = walk.order.iter().map(|order| quoted(&order.column));
        let lead = self.lead();
        let mut columns: Vec<String> = lead.iter().map(|(column, _)| quoted(column)).collect();
        columns.extend(own);
        sql.push("SELECT ").push(select).push(" FROM ").push(quoted(&walk.table)).push(" WHERE true");
        for condition in walk.seek.iter().filter(|condition| !is_equality(condition)) {
            sql.push(" AND ");
            write(condition, sql);
        }
        let bounds = &columns[..lead.len()];
        let values: Vec<&Bind> = lead.iter().map(|(_, value)| *value).collect();
        if !lead.is_empty() {
            write_bound(sql, bounds, " >= ", &values);
        }
        match after {
            Some(place) => write_bound(sql, &columns, " < ", &values.iter().copied().chain(place).collect::<Vec<_>>()),
            None => {
                if !lead.is_empty() {
                    write_bound(sql, bounds, " <= ", &values);
                }
                if let Some(from) = &walk.from {
                    sql.push(" AND ");
                    write(from, sql);
                }
            }
        }
        // The index of a column has its rows without a value together, too.
        let nulls = walk.seek.iter().filter_map(|condition| match condition {
            Condition::Null(column) => Some(quoted(column)),
            Condition::Compare { .. } | Condition::Flag(_) | Condition::Newest => None,
        });
        let order: Vec<String> = nulls.chain(columns.iter().cloned()).map(|column| format!("{column} DESC")).collect();
        sql.push(" ORDER BY ").push(order.join(", "));
    }

    /// The columns that the index begins with, each with the value that is looked for.
    fn lead(&self) -> Vec<(&str, &Bind)> {
        let equal = self.0.seek.iter().filter_map(|condition| match condition {
            Condition::Compare { column, comparison: Comparison::Equal, value } => Some((column.as_str(), value)),
            Condition::Compare { .. } | Condition::Flag(_) | Condition::Null(_) | Condition::Newest => None,
        });
        equal.collect()
    }

    /// The place of the last row that the scan looked at, if its limit was what ended it.
    async fn end_of_scan(
        &self,
        connection: &mut PgConnection,
        after: Option<&[Bind]>,
    ) -> Result<Option<Vec<Bind>>, ReadError> {
        if self.0.keep.is_empty() {
            return Ok(None);
        }
        let columns: Vec<String> = self.0.order.iter().map(|order| quoted(&order.column)).collect();
        let mut sql = QueryBuilder::new("");
        self.write_walk(&mut sql, &columns.join(", "), after);
        sql.push(format!(" LIMIT 1 OFFSET {}", SCAN_LIMIT - 1));
        let row = sql.build().fetch_optional(connection).await.map_err(read_error)?;
        row.map(|row| self.place_of(&row)).transpose().map_err(read_error)
    }

    /// Length of the list, counted up to [`COUNT_LIMIT`], and whether it is at least that long.
    async fn count(&self, connection: &mut PgConnection) -> Result<(u64, bool), ReadError> {
        let (count,): (i64,) = self.count_sql().build_query_as().fetch_one(connection).await.map_err(read_error)?;
        Ok((unsigned(count).min(u64::from(COUNT_LIMIT)), count > i64::from(COUNT_LIMIT)))
    }

    /// How many of the first [`SCAN_LIMIT`] rows walked over are kept, and whether the walk goes on behind them: the
    /// list is then at least that long.
    async fn count_kept(&self, connection: &mut PgConnection) -> Result<(u64, bool), ReadError> {
        let mut sql = QueryBuilder::new("SELECT count(*) FILTER (WHERE ");
        write_all(&mut sql, &self.0.keep);
        sql.push("), count(*) FROM (");
        self.write_walk(&mut sql, &self.0.select, None);
        sql.push(format!(" LIMIT {SCAN_LIMIT}) AS walked"));
        let (kept, walked): (i64, i64) = sql.build_query_as().fetch_one(connection).await.map_err(read_error)?;
        Ok((unsigned(kept), walked >= i64::from(SCAN_LIMIT)))
    }

    fn place_of(&self, row: &PgRow) -> Result<Vec<Bind>, sqlx::Error> {
        let place = self.0.order.iter().map(|order| {
            let column = order.column.as_str();
            Ok(match order.kind {
                Kind::Boolean => Bind::Flag(row.try_get(column)?),
                Kind::Int => Bind::Integer(row.try_get::<i32, _>(column)?.into()),
                Kind::Long => Bind::Integer(row.try_get(column)?),
                Kind::Timestamp => Bind::Moment(row.try_get::<Moment, _>(column)?.0),
                Kind::Float => Bind::Number(row.try_get::<f32, _>(column)?.into()),
                Kind::Double => Bind::Number(row.try_get(column)?),
                Kind::String | Kind::Enum(_) => Bind::Text(row.try_get(column)?),
                Kind::Decimal { .. } => Bind::Decimal(row.try_get::<Numeric, _>(column)?.0),
            })
        });
        place.collect()
    }
}

fn is_equality(condition: &Condition) -> bool {
    matches!(condition, Condition::Compare { comparison: Comparison::Equal, .. })
}

/// `AND (columns) OPERATOR (values)`.
fn write_bound(sql: &mut QueryBuilder<Postgres>, columns: &[String], operator: &str, values: &[&Bind]) {
    sql.push(" AND (").push(columns.join(", ")).push(")").push(operator).push("(");
    for (index, value) in values.iter().enumerate() {
        sql.push(if index == 0 { "" } else { ", " });
        bind(sql, value);
    }
    sql.push(")");
}

fn write_all(sql: &mut QueryBuilder<Postgres>, conditions: &[Condition]) {
    for (index, condition) in conditions.iter().enumerate() {
        if index > 0 {
            sql.push(" AND ");
        }
        write(condition, sql);
    }
}

fn write(condition: &Condition, sql: &mut QueryBuilder<Postgres>) {
    match condition {
        Condition::Compare { column, comparison, value } => {
            sql.push(quoted(column)).push(comparison.symbol());
            bind(sql, value);
        }
        Condition::Flag(column) => {
            sql.push(quoted(column));
        }
        Condition::Null(column) => {
            sql.push(quoted(column)).push(" IS NULL");
        }
        Condition::Newest => {
            sql.push("latest");
        }
    }
}

/// A NUL in a text is what facts and groups have in its place.
fn bind(sql: &mut QueryBuilder<Postgres>, value: &Bind) {
    match value {
        Bind::Flag(flag) => sql.push_bind(*flag),
        Bind::Integer(number) => sql.push_bind(*number),
        Bind::Moment(ms) => sql.push_bind(Moment(*ms)),
        Bind::Number(number) => sql.push_bind(*number),
        Bind::Decimal(decimal) => sql.push_bind(Numeric(*decimal)),
        Bind::Text(text) => sql.push_bind(clean(text)),
    };
}
