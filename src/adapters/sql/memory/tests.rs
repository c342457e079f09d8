use streamward_core::definition::{ColumnDefinition, PipelineDefinition, StreamDefinition, WindowDefinition};
use tempfile::TempDir;

use super::*;
use crate::adapters::sql::{SqlStore, SqliteSettings};

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
        let allowed = allowed.iter().map(|word| (*word).to_owned()).collect();
        let layout = Layout { definitions, allowed, ..Layout::default() };
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
    assert!(Remembered::read(&database.path()).unwrap().is_none());
    database.open(definitions("orders", 60_000), &[]).await.unwrap();
    let remembered = Remembered::read(&database.path()).unwrap().unwrap();
    assert_eq!(remembered.definitions, definitions("orders", 60_000));
    std::fs::write(database.path(), "no database").unwrap();
    let error = Remembered::read(&database.path()).unwrap_err();
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
    let remembered = Remembered::read(&database.path()).unwrap().unwrap();
    assert_eq!(remembered.definitions, definitions("orders", 60_000));
    let changes = remembered.harmful_changes(&definitions("orders", 300_000));
    assert_eq!((changes.len(), &*changes[0].1), (1, "2"));
}

#[actix_rt::test]
async fn an_allowed_change_of_a_window_keeps_its_rows_in_another_table_and_forgets_its_state_alone() {
    let database = Database::new();
    database.open(definitions("orders", 60_000), &[]).await.unwrap();
    database
        .run(&format!("CREATE TABLE minutes_before_1 (n); {WINDOW_TABLE}; {STATE}; INSERT INTO minutes VALUES (1)"));
    database.open(definitions("orders", 300_000), &["window/minutes"]).await.unwrap();
    assert_eq!(database.texts("SELECT CAST(n AS TEXT) FROM minutes_before_2"), ["1"]);
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
