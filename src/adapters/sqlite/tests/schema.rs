//! A table follows its schema.

use streamward_core::table::StreamTable;

use super::*;
use crate::adapters::sqlite::Layout;

fn with_columns(change: impl FnOnce(&mut StreamTable)) -> Layout {
    let mut layout = plan().layout();
    let sensors = layout.streams.iter_mut().find(|table| &*table.stream == "sensors").unwrap();
    change(sensors);
    layout
}

#[actix::test]
async fn a_field_that_became_optional_or_went_may_be_null_in_the_table() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("test.db");
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    store.commit(&[pending(&owner, output(0, 0, 3))]).await.unwrap();
    drop(store);
    let required = "SELECT count(*) FROM pragma_table_info('sensor_readings') WHERE \"notnull\"";
    let before = count(folder.path(), required).await;
    let layout = with_columns(|table| {
        let optional = table.columns.iter_mut().find(|column| column.name == "value").unwrap();
        optional.nullable = true;
        table.columns.retain(|column| column.name != "battery_level");
    });
    for _ in 0..2 {
        drop(SqlStore::open(&file, &SqliteSettings::default(), layout.clone()).await.unwrap());
        assert_eq!(count(folder.path(), required).await, before - 2);
    }
    let file = rusqlite::Connection::open(file).unwrap();
    let insert = "INSERT INTO sensor_readings (id, sensor_id, sensor_type, value, timestamp, location, anomaly, \
                  signal_strength, stored_at) VALUES (9, 's', 't', NULL, 0, 'z', 0, -40, 0)";
    assert_eq!(file.execute(insert, []).unwrap(), 1);
    assert_eq!(count(folder.path(), "SELECT count(*) FROM sensor_readings").await, 4, "and the rows are as they were");
    let sound: String = file.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(sound, "ok");
}

#[actix::test]
async fn a_field_whose_name_changed_its_case_keeps_its_column() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path()).await);
    let layout = with_columns(|table| table.columns[2].name = "Value".to_owned());
    drop(SqlStore::open(&folder.path().join("test.db"), &SqliteSettings::default(), layout).await.unwrap());
}

#[actix::test]
async fn a_database_of_an_earlier_version_opens_and_says_from_where_on_decisions_are_known() {
    use sqlx::Connection as _;
    let folder = tempfile::tempdir().unwrap();
    let options = sqlx::sqlite::SqliteConnectOptions::new()
        .filename(folder.path().join("test.db"))
        .create_if_missing(true)
        .auto_vacuum(sqlx::sqlite::SqliteAutoVacuum::Incremental);
    let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
    let before: Vec<_> = crate::adapters::sqlite::migrations().into_iter().filter(|known| known.version < 10).collect();
    sqlx::migrate::Migrator::with_migrations(before).run(&mut connection).await.unwrap();
    let rows = "INSERT INTO sw_logs VALUES ('sensor-readings', 0, 'cluster', 'first', 0); \
                INSERT INTO sw_positions (sink, topic, partition, log, epoch, next_offset, first_offset, retained_from, \
                updated_at) VALUES ('sensors', 'sensor-readings', 0, 0, 1, 50, 0, 0, 0); \
                INSERT INTO sw_minutes VALUES ('sensors', 0, 0, 4, 10.0, 0)";
    sqlx::raw_sql(rows).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    let store = open(folder.path()).await;
    let owner = assign(&store, 0).await;
    assert!((owner.position, owner.decisions.known().is_empty()) == (Some(50), true), "{owner:?}");
    store.commit(&[pending(&owner, output(0, 50, 52))]).await.unwrap();
    assert_eq!(assign(&store, 0).await.decisions.known(), 50..52);
    assert_eq!(count(folder.path(), "SELECT measured FROM sw_minutes").await, 4);
}
