//! A database that is made for one test.

use std::{
    cell::RefCell,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Row as _};
use streamward_core::{ports::ReadStore, table::Layout};
use streamward_pipeline::store::StoreError;

use super::fixture::plan;
use crate::adapters::{
    database::{Database, DatabaseSettings},
    postgres::settings::PostgresSettings,
    sqlite::{SqliteSettings, read::ReadSettings},
};

/// Where the server of the tests is, as a URL with a password.
const SERVER: &str = "STREAMWARD_POSTGRES";

/// A database of its own.
pub struct Scratch {
    settings: DatabaseSettings,
    kind: Kind,
    opened: RefCell<Option<Database>>,
}

enum Kind {
    Sqlite(tempfile::TempDir),
    /// URL of the database.
    Postgres(String),
}

impl Scratch {
    /// A new file.
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (writer, reads) = (SqliteSettings::default(), ReadSettings::default());
        let settings = DatabaseSettings::Sqlite { file: folder.path().join("test.db"), writer, reads };
        Self { settings, kind: Kind::Sqlite(folder), opened: RefCell::default() }
    }

    /// A new database on the server of the tests. It stays there: the server is the tests' own.
    pub async fn postgres() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let server = std::env::var(SERVER).expect(SERVER);
        let name = format!("contract_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let mut connection = PgConnection::connect(&server).await.unwrap();
        let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::raw_sql(create).execute(&mut connection).await.unwrap();
        let url = format!("{}/{name}", server.rsplit_once('/').expect("a URL with a database").0);
        let settings = DatabaseSettings::Postgres(Box::new(PostgresSettings::of(&url, None, 2).unwrap()));
        Self { settings, kind: Kind::Postgres(url), opened: RefCell::default() }
    }

    /// Another new one of the same kind.
    pub async fn another(&self) -> Self {
        match self.kind {
            Kind::Sqlite(_) => Self::sqlite(),
            Kind::Postgres(_) => Self::postgres().await,
        }
    }

    /// Opens it with the built-in plan.
    pub async fn open(&self) -> Database {
        self.open_with(plan().layout()).await.unwrap()
    }

    /// Opens it with a layout.
    pub async fn open_with(&self, layout: Layout) -> Result<Database, StoreError> {
        let database = self.settings.open(layout).await?;
        self.opened.replace(Some(database.clone()));
        Ok(database)
    }

    /// Reads of the database as it was opened last.
    pub fn reads(&self) -> Arc<dyn ReadStore> {
        self.opened.borrow().as_ref().expect("it was opened").reads.clone()
    }

    /// The whole number that a statement selects.
    pub async fn count(&self, sql: &str) -> i64 {
        let sql = format!("SELECT CAST(({sql}) AS BIGINT)");
        match &self.kind {
            Kind::Sqlite(folder) => file(folder).query_row(&sql, [], |row| row.get(0)).unwrap(),
            Kind::Postgres(url) => {
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection(url).await).await.unwrap()
            }
        }
    }

    /// The byte strings that a statement selects.
    pub async fn bytes(&self, sql: &str) -> Vec<Vec<u8>> {
        match &self.kind {
            Kind::Sqlite(folder) => {
                let file = file(folder);
                let mut select = file.prepare(sql).unwrap();
                select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
            }
            Kind::Postgres(url) => {
                let rows = sqlx::query(AssertSqlSafe(sql)).fetch_all(&mut connection(url).await).await.unwrap();
                rows.iter().map(|row| row.get(0)).collect()
            }
        }
    }

    /// Runs statements as the database's owner may, beside the server.
    pub async fn run(&self, sql: &str) {
        match &self.kind {
            Kind::Sqlite(folder) => file(folder).execute_batch(sql).unwrap(),
            Kind::Postgres(url) => {
                sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut connection(url).await).await.map(drop).unwrap();
            }
        }
    }

    /// A column with a point in time as SQL for milliseconds since 1970.
    pub fn ms(&self, column: &str) -> String {
        match self.kind {
            Kind::Sqlite(_) => column.to_owned(),
            Kind::Postgres(_) => format!("round(extract(epoch FROM {column}) * 1000)"),
        }
    }

    /// Makes the database refuse rows of `sensor_readings` for which a condition on the value holds.
    pub async fn refuse(&self, values: &str) {
        let sql = match self.kind {
            Kind::Sqlite(_) => format!(
                "CREATE TRIGGER refused BEFORE INSERT ON sensor_readings WHEN NEW.value {values} \
                 BEGIN SELECT RAISE(ABORT, 'refused on purpose'); END"
            ),
            Kind::Postgres(_) => {
                format!("ALTER TABLE sensor_readings ADD CONSTRAINT refused CHECK (NOT (value {values}))")
            }
        };
        self.run(&sql).await;
    }
}

fn file(folder: &tempfile::TempDir) -> rusqlite::Connection {
    rusqlite::Connection::open(folder.path().join("test.db")).unwrap()
}

async fn connection(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}
