use streamward_core::{
    definition::{ColumnDefinition, PipelineDefinition, StreamDefinition, WindowDefinition},
    partition::begin_at,
};
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
        replay: BTreeMap::new(),
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
            let remembered = Remembered::read(&database.path()).unwrap().unwrap();
            let changes = remembered.harmful_changes(&replayed(name, "b"));
            assert_eq!(changes.first().map(|(_, count)| &**count), count, "{covered:?}");
            assert_eq!(remembered.harmful_changes(&replayed(name, "a")), []);
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
