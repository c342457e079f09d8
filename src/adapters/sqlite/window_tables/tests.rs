//! Windows with groups that are null, in tables of this layout and of the one before.

use std::path::Path;

use rusqlite::Connection as Sqlite;
use streamward_core::{
    output::{Output, WindowRow},
    ports::{Counting, PageRequest, ReadStore, WindowQuery},
    schema::{Decimal, Scalar},
    table::Layout,
};
use streamward_pipeline::store::{Outcome, SinkStore};

use super::{
    super::{
        SqlStore, SqliteSettings,
        read::{ReadSettings, SqliteReads},
        tests::{assign, count, output, pending, plan},
    },
    *,
};

const KINDS: [(&str, Kind); 7] = [
    ("text", Kind::String),
    ("symbol", Kind::Boolean),
    ("whole", Kind::Int),
    ("long", Kind::Long),
    ("at", Kind::Timestamp),
    ("flag", Kind::Boolean),
    ("amount", Kind::Decimal { precision: 9, scale: 2 }),
];

fn column(name: &str, kind: &Kind) -> Column {
    Column { name: name.to_owned(), path: name.to_owned(), kind: kind.clone(), nullable: false }
}

fn window(group: &[(&str, Kind)]) -> WindowTable {
    WindowTable {
        window: "totals".into(),
        stream: "sensors".into(),
        group: group.iter().map(|(name, kind)| column(name, kind)).collect(),
        values: vec![column("sum", &Kind::Double)],
    }
}

fn layout(group: &[(&str, Kind)]) -> Layout {
    Layout { windows: vec![window(group)], ..plan().layout() }
}

async fn open(folder: &Path, group: &[(&str, Kind)]) -> Result<SqlStore, streamward_pipeline::store::StoreError> {
    SqlStore::open(&folder.join("test.db"), &SqliteSettings::default(), layout(group)).await
}

fn row(group: Vec<Scalar>, sum: f64, revision: i64) -> WindowRow {
    let (window, values) = ("totals".into(), vec![Scalar::Number(sum)]);
    WindowRow { window, start_ms: 60_000, end_ms: 120_000, group, values, overflow: Vec::new(), revision }
}

fn value(kind: &Kind) -> Scalar {
    match kind {
        Kind::Boolean => Scalar::Boolean(false),
        Kind::Int | Kind::Long | Kind::Timestamp => Scalar::Integer(0),
        Kind::Float | Kind::Double => Scalar::Number(0.0),
        Kind::String | Kind::Enum(_) => Scalar::Text(String::new()),
        Kind::Decimal { scale, .. } => Scalar::Decimal(Decimal { unscaled: 0, scale: *scale }),
    }
}

fn with_rows(start: i64, rows: Vec<WindowRow>) -> Output {
    let mut output = output(0, start, start + 1);
    output.windows = rows;
    output
}

#[actix::test]
async fn null_is_one_group_beside_that_of_the_zero_value_for_every_kind() {
    for one in KINDS {
        let folder = tempfile::tempdir().unwrap();
        let group = [one.clone(), ("second", Kind::String)];
        let store = open(folder.path(), &group).await.unwrap();
        let owner = assign(&store, 0).await;
        let groups = |first: Scalar| [first.clone(), first, Scalar::Null, Scalar::Null];
        let firsts = groups(value(&one.1)).into_iter();
        let seconds = [Scalar::Null, Scalar::Text(String::new()), Scalar::Null, Scalar::Text(String::new())];
        let rows = |revision: i64| -> Vec<WindowRow> {
            let both = firsts.clone().zip(seconds.clone());
            both.map(|(first, second)| row(vec![first, second], revision as f64, revision)).collect()
        };
        let first = pending(&owner, with_rows(0, rows(0)));
        let revised = pending(&owner, with_rows(1, rows(1)));
        assert_eq!(store.commit(&[first, revised]).await.unwrap(), [Outcome::Committed, Outcome::Committed], "{one:?}");
        assert_eq!(count(folder.path(), "SELECT count(*) FROM totals").await, 4, "{one:?}");
        assert_eq!(count(folder.path(), "SELECT sum(revision) FROM totals").await, 4, "each was revised once");
    }
}

fn old_table(folder: &Path, group: &[(&str, Kind)]) {
    let table = window(group);
    let columns: String =
        table.group.iter().map(|column| format!("\"{}\" {} NOT NULL, ", column.name, sql_type(&column.kind))).collect();
    let key: String = table.group.iter().map(|column| format!("\"{}\", ", column.name)).collect();
    Sqlite::open(folder.join("test.db"))
        .unwrap()
        .execute_batch(&format!(
            "CREATE TABLE totals (window_start INTEGER NOT NULL, window_end INTEGER NOT NULL, {columns} sum REAL, \
             gone INTEGER, revision INTEGER NOT NULL, log INTEGER NOT NULL, \"partition\" INTEGER NOT NULL, \
             created_at INTEGER NOT NULL, PRIMARY KEY (window_start, {key} log, \"partition\")) STRICT, WITHOUT ROWID; \
             CREATE INDEX totals_created_at ON totals (created_at); \
             INSERT INTO totals VALUES (0, 60000, 'a', 'x', 1.5, 7, 0, 0, 0, 5), (0, 60000, 'a', 'y', 2.5, 8, 0, 0, 0, 5), \
             (60000, 120000, 'b', 'x', 3.5, 9, 2, 0, 0, 5)"
        ))
        .unwrap();
}

#[actix::test]
async fn a_table_of_the_older_layout_is_rebuilt_with_its_rows() {
    let folder = tempfile::tempdir().unwrap();
    let group = [("g", Kind::String), ("h", Kind::String)];
    old_table(folder.path(), &group);
    for _ in 0..2 {
        let store = open(folder.path(), &group).await.unwrap();
        drop(store);
    }
    let store = open(folder.path(), &group).await.unwrap();
    let owner = assign(&store, 0).await;
    let text = |text: &str| Scalar::Text(text.to_owned());
    let rows = vec![row(vec![Scalar::Null, text("x")], 1.0, 0), row(vec![text("b"), text("x")], 9.0, 3)];
    store.commit(&[pending(&owner, with_rows(0, rows))]).await.unwrap();
    assert_eq!(count(folder.path(), "SELECT count(*) FROM totals").await, 4);
    assert_eq!(count(folder.path(), "SELECT sum(gone) FROM totals").await, 24, "columns that went are kept");
    assert_eq!(count(folder.path(), "SELECT revision FROM totals WHERE g = 'b' AND h = 'x' AND sum = 9.0").await, 3);
    assert_eq!(count(folder.path(), "SELECT count(*) FROM sqlite_schema WHERE name LIKE '%before%'").await, 0);
}

#[actix::test]
async fn a_group_that_gains_a_column_keeps_the_old_rows_and_one_that_loses_needed_ones_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let two = [("g", Kind::String), ("h", Kind::String)];
    old_table(folder.path(), &two);
    let three = [two[0].clone(), two[1].clone(), ("more", Kind::Long)];
    drop(open(folder.path(), &three).await.unwrap());
    assert_eq!(count(folder.path(), "SELECT count(*) FROM totals WHERE more IS NULL").await, 3);
    let refused = open(folder.path(), &two[..1]).await.err().unwrap().to_string();
    assert!(refused.contains("window totals was grouped by other columns before"), "{refused}");
    assert!(refused.contains("give the window another name"), "{refused}");
    drop(open(folder.path(), &three).await.unwrap());
    assert_eq!(count(folder.path(), "SELECT count(*) FROM totals").await, 3, "what was refused changed nothing");
}

#[actix::test]
async fn pages_walk_past_groups_that_are_null_and_filters_find_them() {
    let folder = tempfile::tempdir().unwrap();
    let group = [("g", Kind::String), ("h", Kind::Long)];
    let store = open(folder.path(), &group).await.unwrap();
    let owner = assign(&store, 0).await;
    let texts = [Scalar::Null, Scalar::Text(String::new()), Scalar::Text("null".to_owned())];
    let rows = texts.iter().flat_map(|text| {
        [Scalar::Null, Scalar::Integer(0), Scalar::Integer(1)].map(|number| row(vec![text.clone(), number], 1.0, 0))
    });
    let mut rows: Vec<WindowRow> = rows.collect();
    rows[0].overflow = vec!["sum".to_owned()];
    store.commit(&[pending(&owner, with_rows(0, rows))]).await.unwrap();
    let table = window(&group);
    let file = folder.path().join("test.db");
    let reads = SqliteReads::open(&file, plan().layout().streams, vec![table], ReadSettings::default()).await.unwrap();
    let page = PageRequest { limit: 2, cursor: None, counting: Counting::Bounded };
    let query = |nulls: &[&str], group: &[(&str, &str)], page: PageRequest| WindowQuery {
        stream: "sensors".to_owned(),
        window: None,
        from_ms: None,
        to_ms: None,
        group: group.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
        nulls: nulls.iter().map(|name| (*name).to_owned()).collect(),
        page,
    };
    let (mut seen, mut next) = (Vec::new(), page.clone());
    loop {
        let found = reads.windows(query(&[], &[], next)).await.unwrap();
        seen.extend(found.items.iter().map(|item| (item["g"].clone(), item["h"].clone())));
        let Some(cursor) = found.next else { break };
        next = PageRequest { cursor: Some(cursor), ..page.clone() };
    }
    seen.sort_by_key(|pair| format!("{pair:?}"));
    seen.dedup();
    assert_eq!(seen.len(), 9);
    let count = async |nulls: &[&str], group: &[(&str, &str)]| {
        let all = PageRequest { limit: 100, ..page.clone() };
        reads.windows(query(nulls, group, all)).await.unwrap().items.len()
    };
    assert_eq!((count(&["g"], &[]).await, count(&["h"], &[]).await, count(&["g", "h"], &[]).await), (3, 3, 1));
    assert_eq!((count(&[], &[("g", "")]).await, count(&[], &[("g", "null")]).await), (3, 3));
    assert_eq!(count(&["h"], &[("g", "")]).await, 1);
    let marked = reads.windows(query(&["g", "h"], &[], page.clone())).await.unwrap();
    assert_eq!(marked.items[0]["overflow"], serde_json::json!(["sum"]));
    assert!(reads.windows(query(&["sum"], &[], page)).await.is_err(), "the window is not grouped by it");
}
