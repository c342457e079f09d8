//! A database that is made for one test.

use std::{cell::RefCell, sync::Arc};

use streamward_core::{ports::ReadStore, table::Layout};
use streamward_pipeline::store::StoreError;

use super::fixture::plan;
use crate::adapters::{
    database::{Database, DatabaseSettings},
    sqlite::{SqliteSettings, read::ReadSettings},
};

/// A database of its own.
pub struct Scratch {
    settings: DatabaseSettings,
    kind: Kind,
    opened: RefCell<Option<Database>>,
}

enum Kind {
    Sqlite(tempfile::TempDir),
}

impl Scratch {
    /// A new file.
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (writer, reads) = (SqliteSettings::default(), ReadSettings::default());
        let settings = DatabaseSettings::Sqlite { file: folder.path().join("test.db"), writer, reads };
        Self { settings, kind: Kind::Sqlite(folder), opened: RefCell::default() }
    }

    /// Another new one of the same kind.
    pub async fn another(&self) -> Self {
        match self.kind {
            Kind::Sqlite(_) => Self::sqlite(),
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
        match &self.kind {
            Kind::Sqlite(_) => {
                let sql = format!("SELECT CAST(({sql}) AS INTEGER)");
                self.file().query_row(&sql, [], |row| row.get(0)).unwrap()
            }
        }
    }

    /// The byte strings that a statement selects.
    pub async fn bytes(&self, sql: &str) -> Vec<Vec<u8>> {
        match &self.kind {
            Kind::Sqlite(_) => {
                let file = self.file();
                let mut select = file.prepare(sql).unwrap();
                select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
            }
        }
    }

    /// Runs statements as the database's owner may, beside the server.
    pub async fn run(&self, sql: &str) {
        match &self.kind {
            Kind::Sqlite(_) => self.file().execute_batch(sql).unwrap(),
        }
    }

    /// A column with a point in time as SQL for milliseconds since 1970.
    pub fn ms(&self, column: &str) -> String {
        match self.kind {
            Kind::Sqlite(_) => column.to_owned(),
        }
    }

    /// Makes the database refuse rows of `sensor_readings` for which a condition on the value holds.
    pub async fn refuse(&self, values: &str) {
        match self.kind {
            Kind::Sqlite(_) => {
                let sql = format!(
                    "CREATE TRIGGER refused BEFORE INSERT ON sensor_readings WHEN NEW.value {values} \
                     BEGIN SELECT RAISE(ABORT, 'refused on purpose'); END"
                );
                self.run(&sql).await;
            }
        }
    }

    fn file(&self) -> rusqlite::Connection {
        let Kind::Sqlite(folder) = &self.kind;
        rusqlite::Connection::open(folder.path().join("test.db")).unwrap()
    }
}
