//! A walk over one index as SQLite's statements, with a bounded amount of work.

use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection, sqlite::SqliteRow};
use streamward_core::{
    ports::{Counting, PageRequest, ReadError},
    reading::{
        cursor::{self, Bind},
        unsigned,
        walk::{COUNT_LIMIT, Condition, SCAN_LIMIT, Walk, Walked, quoted},
    },
    schema::Kind,
};

use super::read_error;

/// A walk that SQLite is asked for.
pub(super) struct Scan(pub(super) Walk);

impl Scan {
    /// Reads one page.
    pub(super) async fn page(
        &self,
        connection: &mut SqliteConnection,
        page: &PageRequest,
    ) -> Result<Walked<SqliteRow>, ReadError> {
        let after = match &page.cursor {
            Some(text) => Some(cursor::decode(text, &self.0.order)?),
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
        let (total, total_is_estimate) = match page.counting {
            Counting::Skip => (0, false),
            Counting::Bounded if self.0.keep.is_empty() => self.count(connection).await?,
            Counting::Bounded => self.count_kept(connection).await?,
        };
        Ok(Walked { rows, total, total_is_estimate, next })
    }

    /// The statement that reads a page.
    pub(super) fn rows_sql(&self, after: Option<&[Bind]>, limit: u32) -> QueryBuilder<Sqlite> {
        if self.0.keep.is_empty() {
            let mut sql = QueryBuilder::new("");
            self.write_walk(&mut sql, &self.0.select, after);
            sql.push(" LIMIT ").push_bind(i64::from(limit));
            return sql;
        }
        let mut sql = QueryBuilder::new("SELECT * FROM (");
        self.write_walk(&mut sql, &self.0.select, after);
        sql.push(" LIMIT ").push_bind(i64::from(SCAN_LIMIT)).push(") WHERE ");
        write_all(&mut sql, &self.0.keep);
        sql.push(" LIMIT ").push_bind(i64::from(limit));
        sql
    }

    fn write_walk(&self, sql: &mut QueryBuilder<Sqlite>, select: &str, after: Option<&[Bind]>) {
        let columns = self.order_columns();
        sql.push("SELECT ").push(select).push(" FROM ").push(self.source());
        // A cursor bounds the walk more tightly, and SQLite takes only one bound of an index.
        let from = self.0.from.as_ref().filter(|_| after.is_none());
        if !self.0.seek.is_empty() || from.is_some() || after.is_some() {
            sql.push(" WHERE ");
        }
        write_all(sql, self.0.seek.iter().chain(from));
        if let Some(place) = after {
            if !self.0.seek.is_empty() {
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
        if self.0.keep.is_empty() {
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
        if !self.0.seek.is_empty() || self.0.from.is_some() {
            sql.push(" WHERE ");
            write_all(&mut sql, self.0.seek.iter().chain(&self.0.from));
        }
        sql.push(" LIMIT ").push_bind(i64::from(COUNT_LIMIT) + 1).push(")");
        let (count,): (i64,) = sql.build_query_as().fetch_one(connection).await.map_err(read_error)?;
        let over = count > i64::from(COUNT_LIMIT);
        Ok((unsigned(count).min(u64::from(COUNT_LIMIT)), over))
    }

    /// How many of the first [`SCAN_LIMIT`] rows walked over are kept, and whether the walk goes on behind them: the
    /// list is then at least that long.
    async fn count_kept(&self, connection: &mut SqliteConnection) -> Result<(u64, bool), ReadError> {
        let mut sql = QueryBuilder::new("SELECT COUNT(*) FILTER (WHERE ");
        write_all(&mut sql, &self.0.keep);
        sql.push("), COUNT(*) FROM (");
        self.write_walk(&mut sql, &self.0.select, None);
        sql.push(" LIMIT ").push_bind(i64::from(SCAN_LIMIT)).push(")");
        let (kept, walked): (i64, i64) = sql.build_query_as().fetch_one(connection).await.map_err(read_error)?;
        Ok((unsigned(kept), walked >= i64::from(SCAN_LIMIT)))
    }

    fn place_of(&self, row: &SqliteRow) -> Result<Vec<Bind>, sqlx::Error> {
        let place = self.0.order.iter().map(|order| {
            let column = order.column.as_str();
            Ok(match order.kind {
                Kind::Boolean => Bind::Flag(row.try_get(column)?),
                Kind::Int | Kind::Long => Bind::Integer(row.try_get(column)?),
                Kind::Timestamp => Bind::Moment(row.try_get(column)?),
                Kind::Float | Kind::Double => Bind::Number(row.try_get(column)?),
                Kind::String | Kind::Enum(_) | Kind::Decimal { .. } => Bind::Text(row.try_get(column)?),
            })
        });
        place.collect()
    }

    fn source(&self) -> String {
        let table = quoted(&self.0.table);
        self.0.index.map_or(table.clone(), |index| format!("{table} INDEXED BY {index}"))
    }

    fn order_columns(&self) -> Vec<String> {
        self.0.order.iter().map(|order| quoted(&order.column)).collect()
    }
}

fn write_all<'a>(sql: &mut QueryBuilder<Sqlite>, conditions: impl IntoIterator<Item = &'a Condition>) {
    for (index, condition) in conditions.into_iter().enumerate() {
        if index > 0 {
            sql.push(" AND ");
        }
        write(condition, sql);
    }
}

fn bind(sql: &mut QueryBuilder<Sqlite>, value: &Bind) {
    match value {
        Bind::Flag(flag) => sql.push_bind(*flag),
        Bind::Integer(number) | Bind::Moment(number) => sql.push_bind(*number),
        Bind::Number(number) => sql.push_bind(*number),
        Bind::Decimal(decimal) => sql.push_bind(decimal.to_string()),
        Bind::Text(text) => sql.push_bind(text.clone()),
    };
}

fn write(condition: &Condition, sql: &mut QueryBuilder<Sqlite>) {
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
            sql.push("latest = 1");
        }
    }
}
