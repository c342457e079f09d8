//! Files that were deleted or damaged while they were in use, or before.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use streamward_core::ports::{ReadError, ReadStore as _};
use streamward_pipeline::store::{Mended, Store as _, StoreError, Trouble};

use super::*;
use crate::adapters::sqlite::read::{ReadSettings, SqliteReads};

const WITHIN: Duration = Duration::from_secs(1);
const ROWS: &str = "SELECT count(*) FROM sensor_readings";

fn database(folder: &Path) -> PathBuf {
    folder.join("test.db")
}

fn log_of(folder: &Path) -> PathBuf {
    folder.join("test.db-wal")
}

/// A store that has looked at its files, and the owner of a partition with three rows.
async fn in_use(folder: &Path) -> (SqlStore, Assignment) {
    let store = open(folder).await;
    let owner = assign(&store, 0).await;
    store.commit(&[pending(&owner, output(0, 0, 3))]).await.unwrap();
    store.probe(WITHIN).await.unwrap();
    (store, owner)
}

#[actix::test]
async fn what_was_written_into_a_deleted_log_is_in_the_database_after_it_was_opened_anew() {
    written_beside_a_deleted("test.db-wal").await;
}

#[actix::test]
async fn what_was_written_beside_a_deleted_index_of_the_log_is_in_the_database_after_it_was_opened_anew() {
    written_beside_a_deleted("test.db-shm").await;
}

async fn written_beside_a_deleted(part: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (store, owner) = in_use(folder.path()).await;
    fs::remove_file(folder.path().join(part)).unwrap();
    store.commit(&[pending(&owner, output(0, 3, 5))]).await.unwrap();
    assert!(matches!(store.probe(WITHIN).await, Err(Trouble::Mendable(_))));
    let refused = store.commit(&[pending(&owner, output(0, 5, 6))]).await;
    assert!(matches!(&refused, Err(StoreError::Unavailable(why)) if why.contains("deleted")), "{refused:?}");
    assert!(store.write_back(false).await.is_err(), "nothing is written back beside it");
    assert_eq!(store.reopen().await.unwrap(), Mended::Whole);
    store.probe(WITHIN).await.unwrap();
    assert_eq!(store.commit(&[pending(&owner, output(0, 5, 6))]).await.unwrap(), [Outcome::Committed]);
    assert_eq!(count(folder.path(), ROWS).await, 6);
    drop(store);
    assert_eq!(count(folder.path(), "SELECT next_offset FROM sw_positions").await, 6);
    assert_eq!(
        count(folder.path(), "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'").await,
        1
    );
}

#[actix::test]
async fn a_database_that_another_program_has_written_to_meanwhile_is_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (store, owner) = in_use(folder.path()).await;
    store.close_wal().await.unwrap();
    store.commit(&[pending(&owner, output(0, 3, 5))]).await.unwrap();
    fs::remove_file(log_of(folder.path())).unwrap();
    fs::write(log_of(folder.path()), b"somebody else's").unwrap();
    assert!(matches!(store.probe(WITHIN).await, Err(Trouble::Mendable(_))));
    assert_eq!(store.reopen().await.unwrap(), Mended::Older);
    store.probe(WITHIN).await.unwrap();
    let owner = assign(&store, 0).await;
    assert_eq!(owner.position, Some(3), "the rest is read from the log again");
    assert_eq!(store.commit(&[pending(&owner, output(0, 3, 6))]).await.unwrap(), [Outcome::Committed]);
    assert_eq!(count(folder.path(), ROWS).await, 6);
}

#[actix::test]
async fn a_file_that_comes_back_under_its_name_is_written_to_again() {
    let folder = tempfile::tempdir().unwrap();
    let (store, owner) = in_use(folder.path()).await;
    let (file, away) = (database(folder.path()), folder.path().join("away"));
    fs::rename(&file, &away).unwrap();
    assert!(matches!(store.probe(WITHIN).await, Err(Trouble::Gone(_))));
    assert!(store.commit(&[pending(&owner, output(0, 3, 5))]).await.is_err());
    fs::rename(&away, &file).unwrap();
    store.probe(WITHIN).await.unwrap();
    assert_eq!(store.commit(&[pending(&owner, output(0, 3, 5))]).await.unwrap(), [Outcome::Committed]);
}

/// Ways in which files break.
fn harm(file: &File, how: &str) {
    let length = file.metadata().unwrap().len();
    let noise = |from: u64, to: u64| file.write_all_at(&vec![0xa5; usize::try_from(to - from).unwrap()], from).unwrap();
    match how {
        "pages" => noise(length / 2, length),
        "half" => file.set_len(length / 2).unwrap(),
        "a page less" => file.set_len(length - 4_096).unwrap(),
        "header" => noise(0, 100),
        _ => noise(0, length),
    }
}

async fn with_rows_in_the_file(folder: &Path) -> SqlStore {
    let store = open(folder).await;
    let owner = assign(&store, 0).await;
    store.commit(&[pending(&owner, output(0, 0, 5_000))]).await.unwrap();
    store.close_wal().await.unwrap();
    store
}

#[actix::test]
async fn damage_is_found_while_the_database_is_in_use_and_by_the_next_start() {
    for how in ["pages", "half", "a page less", "header", "all"] {
        let folder = tempfile::tempdir().unwrap();
        let store = with_rows_in_the_file(folder.path()).await;
        store.probe(WITHIN).await.unwrap();
        let file = File::options().read(true).write(true).open(database(folder.path())).unwrap();
        harm(&file, how);
        let found = store.probe(WITHIN).await;
        assert!(matches!(&found, Err(Trouble::Damaged { .. })), "{how}: {found:?}");
        drop(store);
        harm(&file, how);
        let settings = SqliteSettings::default();
        let refused = SqlStore::open(&database(folder.path()), &settings, plan().layout()).await;
        let refused = refused.err().unwrap_or_else(|| panic!("{how}: it opens")).to_string();
        assert!(refused.contains("test.db is damaged") && refused.contains("aside"), "{how}: {refused}");
    }
}

#[actix::test]
async fn damage_that_a_commit_comes_across_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    drop(with_rows_in_the_file(folder.path()).await);
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    assert_eq!(store.damage(), None);
    let file = File::options().read(true).write(true).open(database(folder.path())).unwrap();
    harm(&file, "all");
    drop(store.commit(&[pending(&owner, output(0, 5_000, 5_100))]).await);
    assert!(store.damage().is_some());
}

#[actix::test]
async fn what_another_program_dropped_or_renamed_is_missed_until_it_is_there_again() {
    let changes = [
        ("DROP TABLE sensor_readings", "table sensor_readings is missing", false),
        ("ALTER TABLE sensor_readings RENAME COLUMN value TO price", "column value of table sensor_readings", false),
        ("DROP INDEX alerts_resolved", "index alerts_resolved is missing", true),
        ("DROP TABLE sw_ranges", "table sw_ranges is missing", true),
        ("ALTER TABLE dead_letters RENAME COLUMN reason TO why", "column reason of table dead_letters", true),
    ];
    for (sql, words, hinders_a_start) in changes {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = in_use(folder.path()).await;
        let other = rusqlite::Connection::open(database(folder.path())).unwrap();
        other
            .execute_batch("CREATE TABLE theirs (n INTEGER); CREATE INDEX more ON sensor_readings (location)")
            .unwrap();
        store.probe(WITHIN).await.unwrap();
        other.execute_batch(&format!("DROP TABLE theirs; DROP INDEX more; BEGIN; {sql}; COMMIT")).unwrap();
        let found = store.probe(WITHIN).await;
        assert!(matches!(&found, Err(Trouble::Damaged { why, .. }) if why.contains(words)), "{sql}: {found:?}");
        drop(store);
        let opened = SqlStore::open(&database(folder.path()), &SqliteSettings::default(), plan().layout()).await;
        let refused = opened.err().map(|error| error.to_string());
        assert_eq!(refused.is_some(), hinders_a_start, "{sql}: {refused:?}");
        assert!(refused.is_none_or(|why| why.contains(words) && why.contains("aside")), "{sql}");
    }
}

#[actix::test]
async fn reads_work_again_after_they_were_opened_anew_and_damage_that_one_comes_across_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    drop(with_rows_in_the_file(folder.path()).await);
    let path = database(folder.path());
    let settings = ReadSettings { cache_kib: 1, ..ReadSettings::default() };
    let reads = SqliteReads::open(&path, plan().layout().streams, plan().layout().windows, settings).await.unwrap();
    assert_eq!(reads.positions().await.unwrap().len(), 1);
    reads.close().await;
    assert!(reads.positions().await.is_err());
    reads.reopen().await.unwrap();
    assert_eq!((reads.positions().await.unwrap().len(), reads.damage()), (1, None));
    harm(&File::options().read(true).write(true).open(&path).unwrap(), "all");
    let refused = reads.streams(0).await;
    assert!(matches!(&refused, Err(ReadError::Damaged(_))), "{refused:?}");
    assert!(reads.damage().is_some());
}

#[actix::test]
async fn a_file_that_a_full_disk_kept_from_growing_is_whole_with_its_log() {
    let folder = tempfile::tempdir().unwrap();
    let (store, owner) = in_use(folder.path()).await;
    store.close_wal().await.unwrap();
    let sound = fs::metadata(database(folder.path())).unwrap().len();
    // As a checkpoint leaves it that ended behind the header: the log has all pages that are to follow.
    store.commit(&[pending(&owner, output(0, 3, 4_000))]).await.unwrap();
    let log = fs::read(log_of(folder.path())).unwrap();
    let first = (0..).map(|frame| 32 + frame * (24 + 4_096)).find(|at| log[*at..*at + 4] == [0, 0, 0, 1]).unwrap();
    let file = File::options().write(true).open(database(folder.path())).unwrap();
    file.write_at(&log[first + 24..first + 24 + 4_096], 0).unwrap();
    assert_eq!(fs::metadata(database(folder.path())).unwrap().len(), sound);
    store.probe(WITHIN).await.unwrap();
    assert_eq!(count(folder.path(), ROWS).await, 4_000);
}

#[actix::test]
async fn damage_of_each_table_of_the_products_own_is_found() {
    for table in ["sw_logs", "sw_definitions", "sw_ranges", "sw_late", "sw_audit", "sw_outbox"] {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = in_use(folder.path()).await;
        store.close_wal().await.unwrap();
        let database_now = rusqlite::Connection::open(database(folder.path())).unwrap();
        let root = "SELECT rootpage FROM sqlite_schema WHERE name = ?";
        let root: i64 = database_now.query_row(root, [table], |row| row.get(0)).unwrap();
        drop(database_now);
        let file = File::options().write(true).open(database(folder.path())).unwrap();
        file.write_at(&[0; 4_096], u64::try_from((root - 1) * 4_096).unwrap()).unwrap();
        assert!(matches!(store.probe(WITHIN).await, Err(Trouble::Damaged { .. })), "{table}");
    }
}
