//! Which table holds how much.
//!
//! PostgreSQL keeps the space of rows that were deleted for new ones: the size of a table's files says nothing of what is in
//! it after retention, and retention by that size would never end. So once the files are larger than the limit, the rows
//! that are there are counted on a sample of pages. A table then counts with the share of its size that they fill. Facts
//! count with the bytes of their ledger. Where nothing was deleted, a table counts as a whole.

use sqlx::{AssertSqlSafe, PgConnection, Row};
use streamward_core::table::{Layout, OWN_TABLES};

use super::days::{Day, Size, days_of};
use crate::adapters::postgres::{ledger::Kind, moment::Moment, names::quoted};

/// Pages that are looked at of a table, about.
const SAMPLE_PAGES: u64 = 500;
/// Bytes of a page, and those that rows may fill.
const PAGE_BYTES: u64 = 8192;
const ROW_PLACES: f64 = 8168.0;
/// Bytes of a row beside itself: its place in the page, and what fills it up to the next multiple of eight.
const ROW_BYTES: f64 = 8.0;
/// A table whose rows fill so much of it counts as full: the end of a page takes no row.
const FULL: f64 = 0.85;
/// Bytes on disk for each that a ledger counts.
const OF_LEDGER: f64 = 1.5;
/// Share of the rows that leaves first where a day is not over.
const OLDEST: f64 = 0.05;

/// A table that retention takes from, by its place in the layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    Stream(usize),
    Window(usize),
    Facts(Kind),
}

/// What is in use, and of which table how much.
#[derive(Debug, Default)]
pub struct Used {
    pub total: u64,
    pub holders: Vec<(Holder, u64)>,
}

impl Used {
    /// The tables that hold more than an equal share of the limit, largest first.
    pub fn above_their_share(&self, limit: u64) -> Vec<Holder> {
        let share = limit / (self.holders.len() as u64).max(1);
        let mut above: Vec<_> = self.holders.iter().filter(|(_, bytes)| *bytes > share).collect();
        above.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        above.into_iter().map(|(holder, _)| *holder).collect()
    }
}

/// Bytes of the files of all tables: those of the layout and those of the product.
pub async fn file_bytes(connection: &mut PgConnection, layout: &Layout) -> Result<u64, sqlx::Error> {
    let windows = layout.windows.iter().map(|table| table.window.to_string());
    let tables: Vec<String> = layout.streams.iter().map(|table| table.table.clone()).chain(windows).collect();
    let bytes: i64 = sqlx::query_scalar(
        "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c \
         JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_inherits i ON i.inhrelid = c.oid \
         LEFT JOIN pg_class p ON p.oid = i.inhparent WHERE n.nspname = current_schema() AND c.relkind = 'r' \
         AND (coalesce(p.relname, c.relname) = ANY($1) OR c.relname = ANY($2) OR starts_with(c.relname::text, 'sw_'))",
    )
    .bind(tables)
    .bind(OWN_TABLES.map(str::to_owned).to_vec())
    .fetch_one(connection)
    .await?;
    Ok(bytes.unsigned_abs())
}

/// What is in use, of each table. Its cost is a sample of each table that grew.
pub async fn used(connection: &mut PgConnection, layout: &Layout) -> Result<Used, sqlx::Error> {
    let mut used = Used { total: file_bytes(connection, layout).await?, holders: Vec::new() };
    let mut add = |holder, (on_disk, in_use): (u64, u64)| {
        used.total = used.total.saturating_sub(on_disk.saturating_sub(in_use));
        used.holders.push((holder, in_use));
    };
    for (place, table) in layout.streams.iter().enumerate() {
        let mut sum = (0, 0);
        for day in days_of(connection, &table.table).await? {
            sum.0 += day.size.total;
            sum.1 += in_use(connection, &day.table, day.size).await?;
        }
        add(Holder::Stream(place), sum);
    }
    for (place, table) in layout.windows.iter().enumerate() {
        let size = size_of(connection, &table.window).await?;
        add(Holder::Window(place), (size.total, in_use(connection, &table.window, size).await?));
    }
    for kind in Kind::ALL {
        let size = size_of(connection, kind.table()).await?;
        let counted = sqlx::query_scalar("SELECT bytes FROM sw_facts WHERE kind = $1").bind(kind.name());
        let counted: i64 = counted.fetch_one(&mut *connection).await?;
        let counted = (counted.max(0) as f64 * OF_LEDGER) as u64;
        add(Holder::Facts(kind), (size.total, size.total.min(counted)));
    }
    Ok(used)
}

async fn size_of(connection: &mut PgConnection, table: &str) -> Result<Size, sqlx::Error> {
    let sizes = "SELECT pg_total_relation_size(c), pg_table_size(c), pg_relation_size(c) \
                 FROM (SELECT coalesce(to_regclass($1), 0::oid::regclass) AS c) t";
    let row = sqlx::query(sizes).bind(quoted(table)).fetch_one(connection).await?;
    let bytes = |column| row.try_get::<Option<i64>, _>(column).map(|bytes| bytes.unwrap_or(0).unsigned_abs());
    Ok(Size { total: bytes(0)?, table: bytes(1)?, heap: bytes(2)? })
}

/// The share of a table's size that its rows fill, in bytes.
async fn in_use(connection: &mut PgConnection, table: &str, size: Size) -> Result<u64, sqlx::Error> {
    let pages = size.heap / PAGE_BYTES;
    if pages == 0 {
        return Ok(size.total);
    }
    let percent = (SAMPLE_PAGES as f64 / pages as f64).min(1.0) * 100.0;
    let sql = format!(
        "SELECT count(*)::float8, coalesce(sum(pg_column_size(r.*)), 0)::float8 FROM ONLY {} r TABLESAMPLE SYSTEM ({percent})",
        quoted(table)
    );
    let sampled: (f64, f64) = sqlx::query_as(AssertSqlSafe(sql)).persistent(false).fetch_one(connection).await?;
    let room = pages as f64 * percent / 100.0 * ROW_PLACES * (size.table as f64 / size.heap as f64).max(1.0);
    let filled = (sampled.1 + sampled.0 * ROW_BYTES) / room;
    Ok(if filled >= FULL { size.total } else { (size.total as f64 * filled / FULL) as u64 })
}

/// The time by which the oldest rows of a partition were stored, from a sample; none without rows.
pub async fn oldest_until(connection: &mut PgConnection, day: &Day) -> Result<Option<i64>, sqlx::Error> {
    let pages = (day.size.heap / PAGE_BYTES).max(1);
    let mut percent = (SAMPLE_PAGES as f64 / pages as f64).min(1.0) * 100.0;
    loop {
        let sql = format!(
            "SELECT percentile_disc({OLDEST}) WITHIN GROUP (ORDER BY stored_at) FROM ONLY {} TABLESAMPLE SYSTEM ({percent})",
            quoted(&day.table)
        );
        let until: Option<Moment> =
            sqlx::query_scalar(AssertSqlSafe(sql)).persistent(false).fetch_one(&mut *connection).await?;
        // Where most rows have left, a sample may have none of those that are there.
        if until.is_some() || percent >= 100.0 {
            return Ok(until.map(|until| until.0));
        }
        percent = 100.0;
    }
}
