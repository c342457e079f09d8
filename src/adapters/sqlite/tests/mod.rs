//! What SQLite has to do besides what every database has ([`crate::adapters::contract`]).

mod facts;
mod files;
mod numbers;
mod schema;

use std::path::Path;

use futures_util::FutureExt as _;
use sqlx::{Row, SqliteConnection};
use streamward_core::output::{AlertTransition, Output};
use streamward_pipeline::{
    relay::{FactKind, Outbox},
    store::{Assignment, Outcome, SinkStore},
};

use super::{SqlStore, SqliteSettings};
pub(super) use crate::adapters::contract::fixture::*;

pub(super) async fn open(folder: &Path) -> SqlStore {
    SqlStore::open(&folder.join("test.db"), &SqliteSettings::default(), plan().layout()).await.unwrap()
}

pub(super) async fn count(folder: &Path, sql: &'static str) -> i64 {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(folder.join("test.db"));
    let mut connection = <SqliteConnection as sqlx::Connection>::connect_with(&options).await.unwrap();
    sqlx::query(sql).fetch_one(&mut connection).await.unwrap().get(0)
}

#[actix::test]
async fn a_commit_whose_caller_went_away_is_done_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    let outputs = [pending(&owner, output(0, 0, 500))];
    {
        let _busy = store.shared.writer.lock();
        assert!(store.commit(&outputs).now_or_never().is_none(), "a commit waits for the writer");
    }
    let again = store.commit(&outputs).await.unwrap();
    assert!(matches!(again[..], [Outcome::Committed | Outcome::AlreadyCommitted]), "{again:?}");
    assert_eq!(count(folder.path(), "SELECT count(*) FROM sensor_readings").await, 500);
}
