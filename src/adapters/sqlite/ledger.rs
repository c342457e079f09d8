//! What is known of each kind of fact as a whole: the next number, and about how many bytes there are.
//!
//! Numbers are given once, also after retention has removed the newest fact, and ascend in commit order. A number that a
//! rolled back transaction took is given again: nobody has seen it.

use rusqlite::{Connection, params};

/// A kind of fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Alert,
    DeadLetter,
    /// A record that a window missed. It has no number.
    Late,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Alert, Self::DeadLetter, Self::Late];

    /// Its name in `sw_facts` and `sw_outbox`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::DeadLetter => "dead_letter",
            Self::Late => "late",
        }
    }

    /// Bytes of a fact without its texts: numbers and entries of indexes.
    pub const fn fixed_bytes(self) -> usize {
        match self {
            Self::Alert => 400,
            Self::DeadLetter => 250,
            Self::Late => 120,
        }
    }

    /// Bytes of a fact, as SQL over its columns: what [`Ledger::add`] was told when it was stored.
    pub fn bytes_sql(self) -> String {
        let texts = match self {
            Self::Alert => "octet_length(message) + octet_length(record) + ",
            Self::DeadLetter => {
                "coalesce(octet_length(\"key\"), 0) + coalesce(octet_length(value), 0) + octet_length(headers) \
                 + octet_length(reason) + "
            }
            Self::Late => "",
        };
        format!("{texts}{}", self.fixed_bytes())
    }
}

/// What one transaction adds; [`Ledger::close`] stores it.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: [Entry; Kind::ALL.len()],
}

#[derive(Debug, Default)]
struct Entry {
    next_id: Option<i64>,
    bytes: usize,
}

impl Ledger {
    /// The next number of a kind.
    pub fn number(&mut self, connection: &Connection, kind: Kind) -> Result<i64, rusqlite::Error> {
        let entry = &mut self.entries[kind as usize];
        let number = match entry.next_id {
            Some(next) => next,
            None => connection
                .prepare_cached("SELECT next_id FROM sw_facts WHERE kind = ?")?
                .query_row([kind.name()], |row| row.get(0))?,
        };
        entry.next_id = Some(number + 1);
        Ok(number)
    }

    /// Counts a fact with texts of so many bytes.
    pub fn add(&mut self, kind: Kind, text_bytes: usize) {
        self.entries[kind as usize].bytes += text_bytes + kind.fixed_bytes();
    }

    /// Stores what was given and counted, within the transaction of the facts.
    pub fn close(self, connection: &Connection) -> Result<(), rusqlite::Error> {
        for (kind, entry) in Kind::ALL.into_iter().zip(self.entries) {
            if entry.bytes == 0 {
                continue;
            }
            let bytes = i64::try_from(entry.bytes).unwrap_or(i64::MAX);
            connection
                .prepare_cached("UPDATE sw_facts SET next_id = coalesce(?, next_id), bytes = bytes + ? WHERE kind = ?")?
                .execute(params![entry.next_id, bytes, kind.name()])?;
        }
        Ok(())
    }
}

/// Counts facts that were removed, within the transaction that removed them.
pub(super) fn removed(connection: &Connection, kind: Kind, bytes: i64) -> Result<(), rusqlite::Error> {
    connection
        .prepare_cached("UPDATE sw_facts SET bytes = max(bytes - ?, 0) WHERE kind = ?")?
        .execute(params![bytes, kind.name()])?;
    Ok(())
}

/// About how many bytes there are of a kind.
pub(super) fn bytes(connection: &Connection, kind: Kind) -> Result<i64, rusqlite::Error> {
    let mut select = connection.prepare_cached("SELECT bytes FROM sw_facts WHERE kind = ?")?;
    select.query_row([kind.name()], |row| row.get(0))
}
