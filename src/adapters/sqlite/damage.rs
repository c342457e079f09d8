//! Damage of the database: which errors say so, and a look at what would tell of it before somebody needs it.
//!
//! A look opens a connection of its own, so that no page comes from a cache: it reads the header, the schema, the
//! positions, the first and the last row of each table, and goes some rows further through each. Every error of a reader
//! or of the writer that says damage is kept ([`Damage`]).

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File},
    io::{BufReader, Read, Seek},
    path::Path,
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use rusqlite::{Connection, OpenFlags, ffi};
use streamward_pipeline::store::{StoreError, Trouble};

use super::{
    Layout, WriteError,
    ddl::{self, quoted},
    files::beside,
    migrations, window_tables,
};

/// What an operator can do about a damaged database.
pub(super) const WAY_OUT: &str = "stop the server, move the database and its -wal and -shm files aside, and start: what the log \
                           still holds is stored again; or put a backup in its place";

/// Rows of each table that a look walks through.
const WALK_ROWS: i64 = 2_000;

/// Bits of an extended result code that say its kind.
const PRIMARY: i32 = 0xff;

/// Whether a result code of SQLite, extended or not, says that the file is no sound database
/// (<https://www.sqlite.org/rescode.html>).
fn says_damage(code: i32) -> bool {
    matches!(code & PRIMARY, ffi::SQLITE_CORRUPT | ffi::SQLITE_NOTADB) || code == ffi::SQLITE_IOERR_SHORT_READ
}

/// The damage that readers and the writer came across first. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Damage(Arc<Mutex<Option<String>>>);

impl Damage {
    /// What was found, if anything was.
    pub fn found(&self) -> Option<String> {
        self.0.lock().clone()
    }

    /// Keeps an error of the writer if it says damage.
    pub fn note(&self, error: &WriteError) {
        if let WriteError::Sql(error) = error
            && is_damage(error)
        {
            self.0.lock().get_or_insert_with(|| error.to_string());
        }
    }

    /// Keeps what a reader came across.
    pub fn note_read(&self, why: &str) {
        self.0.lock().get_or_insert_with(|| why.to_owned());
    }

    /// Forgets what was found, of files that are no longer in use.
    pub fn forget(&self) {
        *self.0.lock() = None;
    }
}

fn is_damage(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| says_damage(error.extended_code))
}

pub(super) fn is_damage_of(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
    code.and_then(|code| code.parse().ok()).is_some_and(says_damage)
}

/// An error of one that opens the database, with the way out if it says damage.
pub(super) fn of_opening(path: &Path, error: &sqlx::Error) -> StoreError {
    let why = error.to_string();
    StoreError::Unavailable(if is_damage_of(error) { is_damaged(path, &why) } else { why })
}

/// Likewise, of the writer.
pub(super) fn explain(path: &Path, error: WriteError) -> WriteError {
    match error {
        WriteError::Sql(error) if is_damage(&error) => WriteError::Protocol(is_damaged(path, &error.to_string())),
        other => other,
    }
}

/// A damaged database, as trouble.
pub(super) fn trouble(why: String) -> Trouble {
    Trouble::Damaged { why, way_out: WAY_OUT }
}

/// That the database is damaged, where, how, and what to do.
pub(super) fn is_damaged(path: &Path, why: &str) -> String {
    format!("{} is damaged ({why}): {WAY_OUT}", path.display())
}

/// Columns and indexes, by name.
type Names = BTreeSet<String>;

/// What a database must have so that the server can use it.
#[derive(Debug)]
pub(super) struct Wanted(Names);

impl Wanted {
    /// Of what our own tables and those of the layout should have, what is there. Fails where an own table misses
    /// something: nothing adds it later.
    pub fn of(connection: &Connection, layout: &Layout) -> Result<Self, WriteError> {
        let ideal = Connection::open_in_memory()?;
        for migration in migrations() {
            ideal.execute_batch(migration.sql.as_str())?;
        }
        let there = names(connection)?;
        if let Some(missing) = lacks(&names(&ideal)?, &there) {
            return Err(altered(missing).into());
        }
        for table in &layout.streams {
            ddl::create_stream_table(&ideal, table)?;
        }
        for table in &layout.windows {
            window_tables::create_window_table(&ideal, table)?;
        }
        Ok(Self(names(&ideal)?.intersection(&there).cloned().collect()))
    }
}

/// How far the rows of each table were walked.
#[derive(Debug, Default)]
pub(super) struct Walk(Mutex<HashMap<String, i64>>);

/// Looks at a database that nobody deleted: at its length and schema, at the ends of its tables, and at some rows more
/// than last time. No checkpoint may be under way: the file then is shorter than it says.
pub(super) fn look(
    path: &Path,
    (wanted, layout): (&Wanted, &Layout),
    walk: &Walk,
    within: Duration,
) -> Result<(), rusqlite::Error> {
    let whole = is_whole(path);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(within)?;
    if whole.is_err() && !has_missing_pages_in_log(path, &connection)? {
        return whole;
    }
    if let Some(missing) = lacks(&wanted.0, &names(&connection)?) {
        return Err(altered(missing));
    }
    for own in ["sw_positions", "sw_logs", "sw_definitions"] {
        each_row(&connection, &format!("SELECT * FROM {own}"))?;
    }
    for own in ["sw_ranges", "sw_decisions", "sw_late", "sw_audit", "sw_outbox", "sw_keys", "sw_minutes", "sw_facts"] {
        each_row(&connection, &format!("SELECT * FROM {own} LIMIT 1"))?;
    }
    let streams = layout.streams.iter().map(|table| (&*table.table, "id"));
    let windows = layout.windows.iter().map(|table| (&*table.window, window_tables::ROW));
    for (table, id) in streams.chain(windows).chain([("dead_letters", "id"), ("alerts", "id")]) {
        let table = quoted(table);
        for order in ["ASC", "DESC"] {
            each_row(&connection, &format!("SELECT * FROM {table} ORDER BY {id} {order} LIMIT 1"))?;
        }
        walk.step(&connection, (&table, id))?;
    }
    Ok(())
}

/// Whether the file is as long as its header says: what is not in the write-ahead log is read from it alone.
fn is_whole(path: &Path) -> Result<(), rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_URI;
    let Some(text) = path.to_str() else { return Ok(()) };
    let text = text.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    // Without locks and without the log. A descriptor of SQLite's own drops no lock of the process.
    let connection = Connection::open_with_flags(format!("file:{text}?immutable=1"), flags)?;
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
}

/// Whether the write-ahead log has the pages that the file is too short for: a full disk ends a checkpoint between the
/// header and the pages (<https://www.sqlite.org/fileformat2.html#the_write_ahead_log>).
fn has_missing_pages_in_log(path: &Path, connection: &Connection) -> Result<bool, rusqlite::Error> {
    let number = |pragma: &str| connection.query_row(pragma, [], |row| row.get::<_, i64>(0));
    let (size, pages) = (number("PRAGMA page_size")?, number("PRAGMA page_count")?);
    let in_file = fs::metadata(path).map_or(0, |found| i64::try_from(found.len()).unwrap_or(i64::MAX)) / size.max(1);
    let found = File::open(beside(path, "-wal")).and_then(|log| pages_of_log(BufReader::new(log), size));
    let in_log = found.map_or(0, |found| found.into_iter().filter(|page| (in_file + 1..=pages).contains(page)).count());
    Ok(i64::try_from(in_log).unwrap_or(i64::MAX) >= pages - in_file)
}

/// Numbers of the pages in a write-ahead log, up to the first frame of an earlier one.
fn pages_of_log(mut log: impl Read + Seek, page_size: i64) -> std::io::Result<BTreeSet<i64>> {
    let (mut header, mut frame, mut pages) = ([0; 32], [0; 24], BTreeSet::new());
    log.read_exact(&mut header)?;
    while log.read_exact(&mut frame).is_ok() && frame[8..16] == header[16..24] {
        let [first, second, third, fourth, ..] = frame;
        pages.insert(i64::from(u32::from_be_bytes([first, second, third, fourth])));
        log.seek_relative(page_size)?;
    }
    Ok(pages)
}

impl Walk {
    /// Walks on through the rows of a table, and begins again at its end.
    fn step(&self, connection: &Connection, (table, id): (&str, &str)) -> Result<(), rusqlite::Error> {
        let mut places = self.0.lock();
        let place = places.entry(table.to_owned()).or_insert(i64::MIN);
        let sql =
            format!("SELECT max({id}), count(*) FROM (SELECT {id} FROM {table} WHERE {id} > ? ORDER BY {id} LIMIT ?)");
        let mut walk = connection.prepare(&sql)?;
        let (last, rows): (Option<i64>, i64) =
            walk.query_row([*place, WALK_ROWS], |row| Ok((row.get(0)?, row.get(1)?)))?;
        *place = last.filter(|_| rows == WALK_ROWS).unwrap_or(i64::MIN);
        Ok(())
    }
}

/// Why a look failed, if that says damage.
pub(super) fn damage_of(error: &rusqlite::Error) -> Option<String> {
    is_damage(error).then(|| error.to_string())
}

fn each_row(connection: &Connection, sql: &str) -> Result<(), rusqlite::Error> {
    let mut select = connection.prepare(sql)?;
    let mut rows = select.query([])?;
    while rows.next()?.is_some() {}
    Ok(())
}

/// Columns of all tables as `table NAME, column NAME`, and indexes as `index NAME`.
fn names(connection: &Connection) -> Result<Names, rusqlite::Error> {
    let mut select = connection.prepare(
        "SELECT 'column ' || c.name || ' of table ' || m.name FROM sqlite_schema m, pragma_table_xinfo(m.name) c \
         WHERE m.type = 'table' UNION ALL \
         SELECT type || ' ' || name FROM sqlite_schema WHERE type = 'table' OR (type = 'index' AND sql IS NOT NULL)",
    )?;
    let names = select.query_map([], |row| row.get(0))?;
    names.collect()
}

/// A schema that lacks something is damage as bytes that make no sense are.
fn altered(missing: String) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_CORRUPT), Some(missing))
}

/// What is missing of what is wanted, in words.
fn lacks(wanted: &Names, there: &Names) -> Option<String> {
    let missing: Vec<&str> = wanted.difference(there).map(String::as_str).collect();
    let table = missing.iter().find(|name| name.starts_with("table ")).or(missing.first())?;
    Some(format!("{table} is missing: it was dropped, renamed or altered by another program"))
}
