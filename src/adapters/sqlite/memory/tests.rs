use streamward_core::{
    definition::{ColumnDefinition, PipelineDefinition, StreamDefinition, WindowDefinition},
    partition::begin_at,
    schema::Kind,
    table::{Column, StreamTable},
};
use tempfile::TempDir;

use super::*;
use crate::adapters::sqlite::{SqlStore, SqliteSettings};

/// A database with a table for a window and one for a stream, opened with definitions.
struct Database {
    folder: TempDir,
}

impl Database {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join("memory.db")
    }

    async fn open(&self, definitions: Definitions, allowed: &[&str]) -> Result<(), String> {
        self.open_with(layout(definitions, allowed)).await
    }

    async fn open_with(&self, layout: Layout) -> Result<(), String> {
        let opened = SqlStore::open(&self.path(), &SqliteSettings::default(), layout).await;
        opened.map(drop).map_err(|error| error.to_string())
    }

    fn run(&self, sql: &str) {
        Connection::open(self.path()).unwrap().execute_batch(sql).unwrap();
    }

    fn texts(&self, sql: &str) -> Vec<String> {
        let connection = Connection::open(self.path()).unwrap();
        let mut select = connection.prepare(sql).unwrap();
        select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    }
}

fn layout(definitions: Definitions, allowed: &[&str]) -> Layout {
    let allowed = allowed.iter().map(|word| (*word).to_owned()).collect();
    Layout { definitions, allowed, ..Layout::default() }
}

fn column(name: &str) -> ColumnDefinition {
    ColumnDefinition { column: name.to_owned(), field: name.to_owned(), kind: "string".to_owned() }
}

/// A stream with a pipeline of that name, with a window of that length and a rule.
fn definitions(pipeline: &str, size_ms: i64) -> Definitions {
    let stream = StreamDefinition {
        topic: "orders".to_owned(),
        table: "orders".to_owned(),
        columns: vec![column("name")],
        key: "name".to_owned(),
        event_time: "at".to_owned(),
        measure: None,
    };
    let window = WindowDefinition { size_ms, group: Vec::new(), select: vec![column("n")] };
    let defined = PipelineDefinition {
        stream: "orders".to_owned(),
        windows: BTreeMap::from([("minutes".to_owned(), window)]),
        rules: vec!["hot".to_owned()],
        replay: BTreeMap::new(),
        written: BTreeMap::new(),
    };
    Definitions {
        streams: BTreeMap::from([("orders".to_owned(), stream)]),
        pipelines: BTreeMap::from([(pipeline.to_owned(), defined)]),
    }
}

const WINDOW_TABLE: &str = "CREATE TABLE minutes (n INTEGER); CREATE INDEX minutes_created_at ON minutes (n)";
const STATE: &str = "INSERT INTO sw_checkpoints VALUES ('orders', 'orders', 0, 'watermark', 0, 7, x'', 0), \
     ('orders', 'orders', 0, 'window/minutes', 0, 7, x'', 0), ('orders', 'orders', 0, 'begin/minutes', 0, 7, x'', 0), \
     ('orders', 'orders', 0, 'rule/hot', 0, 7, x'', 0), ('others', 'others', 0, 'rule/cold', 0, 7, x'', 0)";
const CHUNKS: &str = "SELECT sink || ' ' || chunk FROM sw_checkpoints ORDER BY 1";

#[actix_rt::test]
async fn a_database_remembers_what_it_was_written_with_and_a_new_one_nothing() {
    let database = Database::new();
    assert!(read(&database.path()).unwrap().is_none());
    database.open(definitions("orders", 60_000), &[]).await.unwrap();
    let remembered = read(&database.path()).unwrap().unwrap();
    assert_eq!(remembered.definitions, definitions("orders", 60_000));
    std::fs::write(database.path(), "no database").unwrap();
    let error = read(&database.path()).unwrap_err();
    assert!(error.contains("memory.db"), "{error}");
}

#[actix_rt::test]
async fn a_harmful_change_is_refused_with_the_rows_concerned_and_nothing_is_touched() {
    let database = Database::new();
    database.open(definitions("orders", 60_000), &[]).await.unwrap();
    database.run(&format!("{WINDOW_TABLE}; {STATE}; INSERT INTO minutes VALUES (1), (2)"));
    let before = database.texts(CHUNKS);
    let refusal = database.open(definitions("orders", 300_000), &["window/others"]).await.unwrap_err();
    assert!(refusal.contains("2 rows") && refusal.contains("--allow window/minutes"), "{refusal}");
    assert_eq!(database.texts(CHUNKS), before);
    let remembered = read(&database.path()).unwrap().unwrap();
    assert_eq!(remembered.definitions, definitions("orders", 60_000));
    let changes = remembered.harmful_changes(&layout(definitions("orders", 300_000), &[]));
    assert_eq!((changes.len(), &*changes[0].1), (1, "2"));
}

#[actix_rt::test]
async fn an_allowed_change_of_a_window_keeps_its_rows_in_another_table_and_forgets_its_state_alone() {
    let database = Database::new();
    database.open(definitions("orders", 60_000), &[]).await.unwrap();
    database
        .run(&format!("CREATE TABLE sw_kept_minutes_1 (n); {WINDOW_TABLE}; {STATE}; INSERT INTO minutes VALUES (1)"));
    database.open(definitions("orders", 300_000), &["window/minutes"]).await.unwrap();
    assert_eq!(database.texts("SELECT CAST(n AS TEXT) FROM sw_kept_minutes_2"), ["1"]);
    assert_eq!(
        database.texts("SELECT name FROM sqlite_schema WHERE name IN ('minutes', 'minutes_created_at')"),
        [""; 0]
    );
    assert_eq!(database.texts(CHUNKS), ["orders rule/hot", "orders watermark", "others rule/cold"]);
    database.open(definitions("orders", 300_000), &[]).await.unwrap();
}

#[actix_rt::test]
async fn a_change_that_concerns_no_row_is_carried_out() {
    let database = Database::new();
    database.open(definitions("orders", 60_000), &[]).await.unwrap();
    database.run(WINDOW_TABLE);
    database.open(definitions("orders", 300_000), &[]).await.unwrap();
    assert_eq!(database.texts("SELECT name FROM sqlite_schema WHERE name = 'minutes'"), [""; 0]);
}

#[actix_rt::test]
async fn a_renamed_pipeline_keeps_its_positions_state_and_facts() {
    let database = Database::new();
    database.open(definitions("orders", 60_000), &[]).await.unwrap();
    let position = "INSERT INTO sw_positions (sink, topic, \"partition\", log, epoch, next_offset, first_offset, \
                    retained_from, updated_at) VALUES ('orders', 'orders', 0, 0, 1, 7, 0, 0, 0)";
    database.run(&format!("{STATE}; {position}"));
    database.open(definitions("renamed", 60_000), &[]).await.unwrap();
    assert_eq!(database.texts("SELECT sink FROM sw_positions"), ["renamed"]);
    let moved = ["begin/minutes", "rule/hot", "watermark", "window/minutes"].map(|chunk| format!("renamed {chunk}"));
    assert_eq!(database.texts(CHUNKS), [&["others rule/cold".to_owned()][..], &moved].concat());
}

/// Definitions whose windows and rules come from these settings.
fn replayed(pipeline: &str, settings: &str) -> Definitions {
    let mut definitions = definitions(pipeline, 60_000);
    definitions.pipelines.get_mut(pipeline).unwrap().replay =
        BTreeMap::from([("filter".to_owned(), settings.to_owned())]);
    definitions
}

/// Positions of partitions at 10, whose checkpoint covers `covered`, and of an earlier log that has none.
fn ended(covered: Option<i64>) -> String {
    let checkpoint = covered.map_or(String::new(), |covered| {
        let watermark = begin_at(covered, None).unwrap().bytes;
        let hex: String = watermark.iter().map(|byte| format!("{byte:02x}")).collect();
        format!(
            "INSERT INTO sw_checkpoints VALUES ('orders', 'orders', 0, 'watermark', 1, {covered}, x'{hex}', 0), \
             ('orders', 'orders', 0, 'rule/hot', 1, {covered}, x'', 0);"
        )
    });
    format!(
        "INSERT INTO sw_positions (sink, topic, \"partition\", log, epoch, next_offset, first_offset, retained_from, \
         updated_at) VALUES ('orders', 'orders', 0, 0, 1, 99, 0, 0, 0), ('orders', 'orders', 0, 1, 2, 10, 3, 0, 0); {checkpoint}"
    )
}

#[actix_rt::test]
async fn other_settings_for_records_that_are_read_again_are_refused_with_their_number() {
    for (covered, count) in [(Some(10), None), (Some(4), Some("6")), (None, Some("7"))] {
        let database = Database::new();
        database.open(replayed("orders", "a"), &[]).await.unwrap();
        database.run(&ended(covered));
        for name in ["orders", "renamed"] {
            let remembered = read(&database.path()).unwrap().unwrap();
            let changes = remembered.harmful_changes(&layout(replayed(name, "b"), &[]));
            assert_eq!(changes.first().map(|(_, count)| &**count), count, "{covered:?}");
            assert_eq!(remembered.harmful_changes(&layout(replayed(name, "a"), &[])), []);
        }
        match (count, database.open(replayed("orders", "b"), &[]).await) {
            (None, opened) => opened.unwrap(),
            (Some(count), opened) => {
                let refusal = opened.unwrap_err();
                assert!(refusal.contains(&format!("{count} records")), "{refusal}");
                database.open(replayed("renamed", "b"), &["replay/renamed"]).await.unwrap();
                assert_eq!(database.texts(CHUNKS), ["renamed watermark"]);
                let at = "SELECT CAST(next_offset AS TEXT) FROM sw_checkpoints WHERE log = 1";
                assert_eq!(database.texts(at), ["10"]);
            }
        }
    }
}

#[actix_rt::test]
async fn rules_that_are_new_begin_at_the_position_where_records_are_read_again() {
    for (covered, known) in [
        (Some(10), &["watermark"][..]),
        (Some(4), &["rule/cold", "rule/warm", "watermark"]),
        (None, &["rule/cold", "rule/warm"]),
    ] {
        let database = Database::new();
        database.open(replayed("orders", "a"), &[]).await.unwrap();
        database.run(&ended(covered));
        database.run("DELETE FROM sw_checkpoints WHERE chunk = 'rule/hot'");
        let mut now = replayed("orders", "a");
        now.pipelines.get_mut("orders").unwrap().rules.extend(["cold".to_owned(), "warm".to_owned()]);
        database.open(now, &[]).await.unwrap();
        assert_eq!(database.texts("SELECT chunk FROM sw_checkpoints WHERE log = 1 ORDER BY 1"), known);
        let covers = format!("SELECT chunk FROM sw_checkpoints WHERE next_offset <> {}", covered.unwrap_or(3));
        assert_eq!(database.texts(&covers), [""; 0]);
    }
}

#[actix_rt::test]
async fn a_step_that_is_taken_out_is_forgotten_so_that_it_is_new_when_it_comes_back() {
    let database = Database::new();
    database.open(definitions("orders", 60_000), &[]).await.unwrap();
    database.run(STATE);
    let mut without = definitions("orders", 60_000);
    let pipeline = without.pipelines.get_mut("orders").unwrap();
    (pipeline.windows, pipeline.rules) = (BTreeMap::new(), Vec::new());
    database.open(without, &[]).await.unwrap();
    assert_eq!(database.texts(CHUNKS), ["orders watermark", "others rule/cold"]);
}

#[actix_rt::test]
async fn a_table_that_nobody_remembers_is_left_alone_and_its_name_is_refused() {
    let database = Database::new();
    database.open(definitions("orders", 60_000), &[]).await.unwrap();
    database.run("CREATE TABLE w_before_1 (n); INSERT INTO w_before_1 VALUES (1), (2); CREATE TABLE empty (n)");
    let with = |window: &str| {
        let mut now = definitions("orders", 60_000);
        let windows = &mut now.pipelines.get_mut("orders").unwrap().windows;
        let same = windows["minutes"].clone();
        windows.insert(window.to_owned(), same);
        now
    };
    let refusal = database.open(with("w_before_1"), &[]).await.unwrap_err();
    let words = ["window w_before_1", "2 rows", "that no stream and no window stores in", "another name"];
    assert!(words.iter().all(|word| refusal.contains(word)), "{refusal}");
    let mut stream = definitions("orders", 60_000);
    let other = StreamDefinition { table: "W_before_1".to_owned(), ..stream.streams["orders"].clone() };
    stream.streams.insert("others".to_owned(), other);
    let refusal = database.open(stream, &[]).await.unwrap_err();
    assert!(refusal.contains("set streams.others.table to another name"), "{refusal}");
    assert_eq!(database.texts("SELECT CAST(count(*) AS TEXT) FROM w_before_1"), ["2"]);
    database.open(with("empty"), &[]).await.unwrap();
}

#[actix_rt::test]
async fn an_index_that_stayed_gives_its_name_to_a_table_and_to_an_index_of_another() {
    let orders = |indexes: Vec<usize>| StreamTable { table: "orders".to_owned(), indexes, ..stream_table("orders") };
    let defined = |more: &[(&str, &str)]| {
        let mut defined = definitions("orders", 60_000);
        for (stream, table) in more {
            let other = StreamDefinition {
                topic: (*stream).to_owned(),
                table: (*table).to_owned(),
                ..defined.streams["orders"].clone()
            };
            defined.streams.insert((*stream).to_owned(), other);
        }
        defined
    };
    let indexed =
        "SELECT tbl_name || ' ' || name FROM sqlite_schema WHERE type = 'index' AND name LIKE 'orders_%' ORDER BY 1";
    let database = Database::new();
    let with = Layout { streams: vec![orders(vec![0, 2])], definitions: defined(&[]), ..Layout::default() };
    database.open_with(with).await.unwrap();
    assert_eq!(database.texts(indexed), ["orders orders_at", "orders orders_name", "orders orders_z_name"]);
    let other = StreamTable { table: "orders_z".to_owned(), ..stream_table("others") };
    let named = StreamTable { table: "orders_name".to_owned(), ..stream_table("named") };
    let definitions = defined(&[("others", "orders_z"), ("named", "orders_name")]);
    let streams = vec![StreamTable { indexes: Vec::new(), ..orders(Vec::new()) }, other, named];
    database.open_with(Layout { streams, definitions, ..Layout::default() }).await.unwrap();
    let there = [
        "orders orders_at",
        "orders_name orders_name_at",
        "orders_name orders_name_name",
        "orders_z orders_z_at",
        "orders_z orders_z_name",
    ];
    assert_eq!(database.texts(indexed), there);
}

#[actix_rt::test]
async fn an_index_with_the_name_of_a_table_that_stayed_is_refused() {
    let database = Database::new();
    let mut before = definitions("orders", 60_000);
    let windows = &mut before.pipelines.get_mut("orders").unwrap().windows;
    let window = windows.remove("minutes").unwrap();
    windows.insert("orders_name".to_owned(), window);
    database.open(before.clone(), &[]).await.unwrap();
    database.run("CREATE TABLE orders_name (n); INSERT INTO orders_name VALUES (1)");
    before.pipelines.get_mut("orders").unwrap().windows.clear();
    let now = Layout { streams: vec![stream_table("orders")], definitions: before, ..Layout::default() };
    let refusal = database.open_with(now.clone()).await.unwrap_err();
    let words = ["stream orders", "index orders_name", "the name of a table", "1 rows", "set streams.orders.table"];
    assert!(words.iter().all(|word| refusal.contains(word)), "{refusal}");
    database.run("DELETE FROM orders_name");
    database.open_with(now).await.unwrap();
}

/// The table of a stream of that name, with the columns `name`, `at` and `z_name`.
fn stream_table(stream: &str) -> StreamTable {
    let column = |name: &str, kind| Column { name: name.to_owned(), path: name.to_owned(), kind, nullable: true };
    StreamTable {
        stream: stream.into(),
        topic: stream.into(),
        table: stream.to_owned(),
        columns: vec![column("name", Kind::String), column("at", Kind::Timestamp), column("z_name", Kind::String)],
        key: 0,
        event_time: 1,
        max_ahead_ms: 0,
        measure: None,
        anomaly: None,
        indexes: vec![0],
    }
}
