//! What is known of each kind of fact as a whole: the next number, and about how many bytes there are.
//!
//! Numbers are given once, also after retention has removed the newest fact, and ascend in commit order: who takes one
//! holds the row of its kind until the transaction ends. A transaction takes from the kinds in the order of [`Kind::ALL`].

use sqlx::PgConnection;

/// A kind of fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Alert,
    DeadLetter,
    /// A record that a window missed. It has no number.
    Late,
}

impl Kind {
    pub const ALL: [Self; 3] = [Self::Alert, Self::DeadLetter, Self::Late];

    /// Its name in `sw_facts` and `sw_outbox`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Alert => "alert",
            Self::DeadLetter => "dead_letter",
            Self::Late => "late",
        }
    }

    /// Its table.
    pub const fn table(self) -> &'static str {
        match self {
            Self::Alert => "alerts",
            Self::DeadLetter => "dead_letters",
            Self::Late => "sw_late",
        }
    }

    /// Bytes of a fact without its texts: numbers and entries of indexes.
    pub const fn fixed_bytes(self) -> i64 {
        match self {
            Self::Alert => 400,
            Self::DeadLetter => 250,
            Self::Late => 120,
        }
    }

    /// Bytes of a fact, as SQL over its columns: what [`take`] was told when it was stored.
    pub fn bytes_sql(self) -> String {
        let texts = match self {
            Self::Alert => "octet_length(message) + octet_length(record) + ",
            Self::DeadLetter => {
                "coalesce(octet_length(\"key\"), 0) + coalesce(octet_length(value), 0) + octet_length(headers) \
                 + octet_length(reason) + "
            }
            Self::Late => "",
        };
        format!("{texts}{}::bigint", self.fixed_bytes())
    }
}

/// Takes `count` numbers for facts of so many bytes, texts and [`Kind::fixed_bytes`] together; returns the first.
///
/// # Errors
/// Of the database.
pub async fn take(connection: &mut PgConnection, kind: Kind, (count, bytes): (i64, i64)) -> Result<i64, sqlx::Error> {
    sqlx::query_scalar(
        "UPDATE sw_facts SET next_id = next_id + $2, bytes = bytes + $3 WHERE kind = $1 RETURNING next_id - $2",
    )
    .bind(kind.name())
    .bind(count)
    .bind(bytes)
    .fetch_one(connection)
    .await
}

/// Counts facts that were removed, within the transaction that removed them.
///
/// # Errors
/// Of the database.
pub async fn removed(connection: &mut PgConnection, kind: Kind, bytes: i64) -> Result<(), sqlx::Error> {
    sqlx::query("UPDATE sw_facts SET bytes = greatest(bytes - $2, 0) WHERE kind = $1")
        .bind(kind.name())
        .bind(bytes)
        .execute(connection)
        .await
        .map(drop)
}
