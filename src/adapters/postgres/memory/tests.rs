use streamward_core::{
    definition::{ColumnDefinition, PipelineDefinition, StreamDefinition, WindowDefinition},
    partition::begin_at,
};

use super::*;
use crate::adapters::postgres::scratch::{Scratch, with_database};

const WINDOW: &str = "CREATE TABLE minutes (n text); CREATE INDEX minutes_created_at ON minutes (n)";
const STATE: &str = "INSERT INTO sw_checkpoints VALUES ('orders', 'orders', 0, 'watermark', 0, 7, '', now()), \
     ('orders', 'orders', 0, 'window/minutes', 0, 7, '', now()), ('orders', 'orders', 0, 'begin/minutes', 0, 7, '', now()), \
     ('orders', 'orders', 0, 'rule/hot', 0, 7, '', now()), ('others', 'others', 0, 'rule/cold', 0, 7, '', now())";
const CHUNKS: &str = "SELECT sink || ' ' || chunk FROM sw_checkpoints ORDER BY 1";

async fn open(scratch: &mut Scratch, definitions: Definitions, allowed: &[&str]) -> Result<(), String> {
    let layout = layout(definitions, allowed);
    adopt(&mut scratch.connection, &layout).await.map_err(|error| error.to_string())?;
    remember(&mut scratch.connection, &layout.definitions).await.map_err(|error| error.to_string())
}

fn layout(definitions: Definitions, allowed: &[&str]) -> Layout {
    let allowed = allowed.iter().map(|word| (*word).to_owned()).collect();
    Layout { definitions, allowed, ..Layout::default() }
}

fn column(name: &str) -> ColumnDefinition {
    ColumnDefinition { column: name.to_owned(), field: name.to_owned(), kind: "string".to_owned() }
}

/// A stream with a pipeline of that name, with a window of that length, a rule, and settings that replay depends on.
fn definitions(pipeline: &str, size_ms: i64, settings: &str) -> Definitions {
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
        replay: BTreeMap::from([("filter".to_owned(), settings.to_owned())]),
        written: BTreeMap::new(),
    };
    Definitions {
        streams: BTreeMap::from([("orders".to_owned(), stream)]),
        pipelines: BTreeMap::from([(pipeline.to_owned(), defined)]),
    }
}

fn orders(size_ms: i64) -> Definitions {
    definitions("orders", size_ms, "a")
}

/// A position at 10 whose checkpoint covers `covered`, and one of an earlier log.
async fn end(scratch: &mut Scratch, covered: i64) {
    scratch.position(0, 99).await;
    scratch.position(1, 10).await;
    let watermark = begin_at(covered, None).unwrap().bytes;
    sqlx::query("INSERT INTO sw_checkpoints VALUES ('orders', 'orders', 0, 'watermark', 1, $1, $2, now())")
        .bind(covered)
        .bind(watermark)
        .execute(&mut scratch.connection)
        .await
        .unwrap();
}

#[actix_rt::test]
async fn a_database_remembers_what_it_was_written_with_and_a_new_one_or_none_nothing() {
    with_database("remembers", async |scratch| {
        assert!(read(&scratch.settings).await.unwrap().is_none());
        open(scratch, orders(60_000), &[]).await.unwrap();
        scratch.make_tables().await;
        scratch.store(0, 0..5, std::time::Duration::ZERO).await;
        let remembered = read(&scratch.settings).await.unwrap().unwrap();
        assert_eq!(remembered.definitions, orders(60_000));
        let rows: Vec<_> = remembered.rows.iter().map(|(table, rows)| (table.as_str(), *rows)).collect();
        assert_eq!(rows, [("minutes", 0), ("orders", 5)], "a partition is no table of its own");
        assert_eq!(remembered.partitions("orders", "orders"), Some(1));
        let url = std::env::var("STREAMWARD_POSTGRES").unwrap();
        let (place, _) = url.rsplit_once('/').unwrap();
        let none = PostgresSettings::of(&format!("{place}/keep_there_is_none"), None, 1).unwrap();
        assert!(read(&none).await.unwrap().is_none());
        let wrong = PostgresSettings::of(&url, Some("wrong"), 1).unwrap();
        let error = read(&wrong).await.unwrap_err();
        assert!(error.contains(&wrong.place()) && error.contains("28P01"), "{error}");
    })
    .await;
}

#[actix_rt::test]
async fn a_harmful_change_is_refused_with_the_rows_concerned_and_nothing_is_touched() {
    with_database("refused", async |scratch| {
        open(scratch, orders(60_000), &[]).await.unwrap();
        scratch.run(&format!("{WINDOW}; {STATE}; INSERT INTO minutes VALUES (1), (2)")).await;
        let before = scratch.texts(CHUNKS).await;
        let refusal = open(scratch, orders(300_000), &["window/others"]).await.unwrap_err();
        assert!(refusal.contains("2 rows") && refusal.contains("--allow window/minutes"), "{refusal}");
        assert_eq!(scratch.texts(CHUNKS).await, before);
        let remembered = read(&scratch.settings).await.unwrap().unwrap();
        assert_eq!(remembered.definitions, orders(60_000));
    })
    .await;
}

#[actix_rt::test]
async fn an_allowed_change_of_a_window_keeps_its_rows_in_another_table_and_forgets_its_state_alone() {
    with_database("aside", async |scratch| {
        open(scratch, orders(60_000), &[]).await.unwrap();
        let before = "CREATE TABLE sw_kept_minutes_1 (n text)";
        scratch.run(&format!("{before}; {WINDOW}; {STATE}; INSERT INTO minutes VALUES (1)")).await;
        open(scratch, orders(300_000), &["window/minutes"]).await.unwrap();
        assert_eq!(scratch.texts("SELECT n FROM sw_kept_minutes_2").await, ["1"]);
        assert_eq!(
            scratch.count("SELECT count(*) FROM pg_class WHERE relname IN ('minutes', 'minutes_created_at')").await,
            0
        );
        assert_eq!(scratch.texts(CHUNKS).await, ["orders rule/hot", "orders watermark", "others rule/cold"]);
        open(scratch, orders(300_000), &[]).await.unwrap();
    })
    .await;
}

#[actix_rt::test]
async fn a_change_that_concerns_no_row_is_carried_out_also_of_a_table_with_partitions() {
    with_database("no_row", async |scratch| {
        open(scratch, orders(60_000), &[]).await.unwrap();
        scratch.make_tables().await;
        let mut now = orders(300_000);
        now.streams.get_mut("orders").unwrap().columns[0].kind = "long".to_owned();
        open(scratch, now, &[]).await.unwrap();
        assert_eq!(scratch.count("SELECT count(*) FROM pg_class WHERE relname ~ '^(minutes|orders)'").await, 0);
    })
    .await;
}

#[actix_rt::test]
async fn a_renamed_pipeline_keeps_its_positions_state_and_facts() {
    with_database("renamed", async |scratch| {
        open(scratch, orders(60_000), &[]).await.unwrap();
        scratch.run(STATE).await;
        scratch.position(0, 7).await;
        scratch.alert("a", (0, "firing"), 0).await;
        scratch.letters(0..1, 1, true).await;
        open(scratch, definitions("renamed", 60_000, "a"), &[]).await.unwrap();
        for table in ["sw_positions", "alerts", "dead_letters", "sw_outbox"] {
            assert_eq!(
                scratch.count(&format!("SELECT count(*) FROM {table} WHERE sink <> 'renamed'")).await,
                0,
                "{table}"
            );
        }
        let moved =
            ["begin/minutes", "rule/hot", "watermark", "window/minutes"].map(|chunk| format!("renamed {chunk}"));
        assert_eq!(scratch.texts(CHUNKS).await, [&["others rule/cold".to_owned()][..], &moved].concat());
    })
    .await;
}

#[actix_rt::test]
async fn other_settings_for_records_that_are_read_again_are_refused_with_their_number_unless_allowed() {
    with_database("replay", async |scratch| {
        open(scratch, orders(60_000), &[]).await.unwrap();
        end(scratch, 4).await;
        scratch.alert("a", (0, "firing"), 1).await;
        let other = || definitions("orders", 60_000, "b");
        let refusal = open(scratch, other(), &[]).await.unwrap_err();
        assert!(refusal.contains("6 records"), "{refusal}");
        open(scratch, other(), &["replay/orders"]).await.unwrap();
        assert_eq!(scratch.count("SELECT next_offset FROM sw_checkpoints WHERE chunk = 'watermark'").await, 10);
        let firing = "SELECT count(*) FROM alerts WHERE latest AND state = 'firing'";
        assert_eq!(scratch.count(firing).await, 0, "its rule begins anew");
        open(scratch, other(), &[]).await.unwrap();
    })
    .await;
}

#[actix_rt::test]
async fn rules_that_are_new_begin_at_the_position_where_records_are_read_again() {
    for (name, covered, known) in [("even", 10, &["watermark"][..]), ("behind", 4, &["rule/cold", "watermark"])] {
        with_database(name, async |scratch| {
            open(scratch, orders(60_000), &[]).await.unwrap();
            end(scratch, covered).await;
            let mut now = orders(60_000);
            now.pipelines.get_mut("orders").unwrap().rules.push("cold".to_owned());
            open(scratch, now, &[]).await.unwrap();
            assert_eq!(scratch.texts("SELECT chunk FROM sw_checkpoints WHERE log = 1 ORDER BY 1").await, known);
            assert_eq!(
                scratch.count(&format!("SELECT count(*) FROM sw_checkpoints WHERE next_offset <> {covered}")).await,
                0
            );
        })
        .await;
    }
}

#[actix_rt::test]
async fn a_step_that_is_taken_out_is_forgotten_so_that_it_is_new_when_it_comes_back() {
    with_database("taken_out", async |scratch| {
        open(scratch, orders(60_000), &[]).await.unwrap();
        scratch.run(STATE).await;
        let mut without = orders(60_000);
        let pipeline = without.pipelines.get_mut("orders").unwrap();
        (pipeline.windows, pipeline.rules) = (BTreeMap::new(), Vec::new());
        open(scratch, without, &[]).await.unwrap();
        assert_eq!(scratch.texts(CHUNKS).await, ["orders watermark", "others rule/cold"]);
    })
    .await;
}

#[actix_rt::test]
async fn a_table_that_nobody_remembers_is_left_alone_and_its_name_is_refused() {
    with_database("nobody", async |scratch| {
        open(scratch, orders(60_000), &[]).await.unwrap();
        scratch.run("CREATE TABLE \"Mine\" (n text); INSERT INTO \"Mine\" VALUES (1), (2)").await;
        let mut now = orders(60_000);
        let windows = &mut now.pipelines.get_mut("orders").unwrap().windows;
        windows.insert("mine".to_owned(), windows["minutes"].clone());
        let refusal = open(scratch, now, &[]).await.unwrap_err();
        assert!(refusal.contains("window mine") && refusal.contains("2 rows"), "{refusal}");
        assert_eq!(scratch.count("SELECT count(*) FROM \"Mine\"").await, 2);
    })
    .await;
}
