//! What is right is read, from file, environment and command line.

use proptest::prelude::*;

use super::*;
use crate::config::Step;

#[test]
fn an_empty_file_has_the_built_in_streams_and_pipelines() {
    let config = given("").config();
    let built_in = Config::load(&Sources::default()).unwrap().config;
    assert_eq!(config, built_in);
    assert_eq!(config.streams.len(), 2);
    assert!(config.sensor_simulator().is_some());
}

#[test]
fn a_file_with_own_streams_has_no_others_and_no_pipelines_for_them() {
    let config = given("streams:\n  a: { schema: a.avsc, key: id }\n").config();
    assert_eq!(config.streams.keys().collect::<Vec<_>>(), ["a"]);
    assert!(config.pipelines.is_empty());
    assert_eq!(config.streams["a"].topic("a"), "a");
    assert!(config.sensor_simulator().is_none());
}

#[test]
fn a_section_whose_keys_are_commented_out_has_its_defaults() {
    let config = given("http:\n  # workers: 2\nauth:\n  tokens:\nkafka:\n  client:\n").config();
    assert_eq!(config.http, crate::config::HttpConfig::default());
    assert!(config.auth.tokens.is_empty());
}

#[test]
fn null_is_no_limit_where_a_limit_may_be_left_out() {
    let config = given("storage: { retention: { size: null } }\n").config();
    assert_eq!(config.storage.retention.size, None);
    assert!(config.storage.retention.age.is_some());
}

#[test]
fn the_command_line_is_stronger_than_the_environment_and_that_than_the_file() {
    let config = given("http: { workers: 2, websocket: { queue: 2 } }\nnode: { id: file }\n")
        .env("STREAMWARD__HTTP__WORKERS", "3")
        .env("STREAMWARD__HTTP__WEBSOCKET__QUEUE", "3")
        .set("http.workers", "4")
        .config();
    assert_eq!(config.http.workers, 4);
    assert_eq!(config.http.websocket.queue, 3);
    assert_eq!(config.node.id.as_deref(), Some("file"));
}

#[test]
fn overrides_reach_built_in_streams_list_items_and_flow_values() {
    let config = given("")
        .set("streams.sensors.partitions", "8")
        .set("streams.sensors.indexes", "[sensor_id]")
        .set("pipelines.sensors.steps.0.filter", "value > 5 # all")
        .set("auth.tokens.0", "{name: ops, token: abc, role: admin}")
        .env("STREAMWARD__AUTH__TOKENS__0__TOKEN", "ignored")
        .set("auth.tokens.1.name", "second")
        .set("auth.tokens.1.token", "0123")
        .set("kafka.client.fetch.min.bytes", "1")
        .env("STREAMWARD__KAFKA__CLIENT__FETCH_WAIT_MAX_MS", "5")
        .config();
    assert_eq!(config.streams["sensors"].partitions, 8);
    assert_eq!(config.streams["sensors"].indexes, ["sensor_id"]);
    assert_eq!(config.pipelines["sensors"].steps[0], Step::Filter("value > 5 # all".into()));
    assert_eq!(config.auth.tokens[0].token.expose(), "abc");
    assert_eq!(config.auth.tokens[1].token.expose(), "0123");
    let client: Vec<_> = config.kafka.client.expose().collect();
    assert_eq!(client, [("fetch.min.bytes", "1"), ("fetch.wait.max.ms", "5")]);
}

#[test]
fn a_text_from_outside_stays_a_text_whatever_it_looks_like() {
    let config = given("auth: { tokens: [ { name: a, token: \"${T}\" } ] }\n")
        .env("T", "12345")
        .set("kafka.consumer_group", "null")
        .set("node.id", "7")
        .config();
    assert_eq!(config.auth.tokens[0].token.expose(), "12345");
    assert_eq!(config.kafka.consumer_group, "null");
    assert_eq!(config.node.id.as_deref(), Some("7"));
}

#[test]
fn variables_have_defaults_files_and_an_escape() {
    let given = given(
        "node: { id: \"${WHO:-node}-1\", data_dir: \"${DIR}\" }\nhttp: { workers: \"${W:-2}\" }\n\
         kafka: { consumer_group: \"a$${b}\", bootstrap: \"${B:-}\" }\n\
         auth: { tokens: [ { name: a, token: \"${file:secret}\" } ] }\n",
    )
    .env("DIR", "/data/${WHO}");
    fs::write(given.folder.path().join("secret"), "top-secret\n").unwrap();
    let config = given.config();
    assert_eq!(config.node.id.as_deref(), Some("node-1"));
    assert_eq!(config.node.data_dir, Path::new("/data/${WHO}"));
    assert_eq!(config.http.workers, 2);
    assert_eq!(config.kafka.consumer_group, "a${b}");
    assert_eq!(config.kafka.bootstrap, None);
    assert_eq!(config.auth.tokens[0].token.expose(), "top-secret");
}

#[test]
fn set_arguments_are_split_at_the_first_equals_sign() {
    assert_eq!(parse_set("a.b=c=d"), Ok(("a.b".into(), "c=d".into())));
    assert!(parse_set("a.b").is_err());
    assert!(parse_set("=c").is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in ".{0,200}") {
        let faults = given(&text).faults();
        prop_assert!(faults.len() <= MAX_FAULTS);
    }

    #[test]
    fn any_override_is_read_or_refused_at_its_own_name(
        path in "(http|auth|streams|kafka)(\\.(tokens|0|1|client|a|sensors|listen|partitions)){0,4}",
        value in ".{0,40}",
    ) {
        for fault in given("").set(&path, &value).faults() {
            let built_in = fault.origin.starts_with(BUILT_IN_NAME);
            prop_assert!(built_in || fault.origin == format!("--set {path}"), "{fault}");
        }
    }
}
