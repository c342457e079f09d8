//! What is wrong is found, all of it, at its place.

use super::*;

#[test]
fn every_fault_is_reported_at_once_with_its_place_and_path() {
    let yaml = "\
http:
  lisen: 127.0.0.1:1
  workers: many
  max_body: 5 parsecs
storage:
  checkpoint_every: soon
  sqlite: { synchronous: nomal }
  commit: { max_rows: 1, max_rows: 2 }
node:
  id: ${NO_SUCH_NAME}
streams:
  a:
    schema: a.avsc
    key: id
    partitions: 0
pipelines:
  a:
    from: b
    steps:
      - filtr: x
      - window: { name: w, tumbling: 0s, select: { c: 5, d: count(*) } }
      - rule: { name: r, when: x > 1, severity: fatal }
";
    assert_eq!(
        given(yaml).lines(),
        [
            "8:26 storage.commit.max_rows: duplicate key 'max_rows', given first in line 8",
            "10:7 node.id: environment variable NO_SUCH_NAME is not set",
            "2:3 http.lisen: unknown key 'lisen', did you mean 'listen'?",
            "3:12 http.workers: expected a whole number from 0 to 4294967295, found \"many\"",
            "4:13 http.max_body: expected a size such as 512B, 64KiB, 4MiB or 8GiB, found \"5 parsecs\"",
            "6:21 storage.checkpoint_every: expected a duration such as 100ms, 5s, 1h30m or 7d, found \"soon\"",
            "7:26 storage.sqlite.synchronous: unknown value 'nomal', did you mean 'normal'?",
            "20:9 pipelines.a.steps.0.filtr: unknown key 'filtr', did you mean 'filter'?",
            "21:55 pipelines.a.steps.1.window.select.c: expected a text, found 5",
            "22:49 pipelines.a.steps.2.rule.severity: unknown value 'fatal'",
            "21:38 pipelines.a.steps.1.window.tumbling: 0s is not between 1ms and 366d",
            "15:17 streams.a.partitions: 0 is not between 1 and 1024",
            "18:11 pipelines.a.from: there is no stream 'b'; streams: a",
        ]
    );
}

#[test]
fn a_fault_is_shown_with_its_line_and_a_caret() {
    let given = given("http:\n  workers: 1\n  lisen: x\n");
    let shown = given.faults()[0].to_string();
    let (_, from_line) = shown.split_once("config.yaml:").unwrap();
    assert_eq!(from_line, "3:3: http.lisen: unknown key 'lisen', did you mean 'listen'?\n 3 |   lisen: x\n   |   ^");
}

#[test]
fn faults_serialize_for_scripts() {
    let given = given("htp: {}\n");
    let faults = Config::load(&given.sources).unwrap_err();
    let json = serde_json::to_value(&faults.named).unwrap();
    assert_eq!(json[0]["path"], "htp");
    assert_eq!(json[0]["message"], "unknown key 'htp', did you mean 'http'?");
    let origin = json[0]["origin"].as_str().unwrap();
    assert!(origin.ends_with("config.yaml:1:1"), "{origin}");
}

#[test]
fn a_far_word_is_answered_with_the_known_ones() {
    let fault = &given("telemetry: { log: { format: xml } }\n").faults()[0];
    assert_eq!(fault.help.as_deref(), Some("known here: text, json"));
}

#[test]
fn text_that_is_not_yaml_is_one_fault_at_its_place() {
    let lines = given("http:\n  workers: [1\n").lines();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("2:12 : not YAML: "), "{lines:?}");
    assert!(!lines[0].contains("line 2"), "{lines:?}");
    assert_eq!(given("- a\n").lines(), ["1:1 : expected a map of sections"]);
}

#[test]
fn a_missing_file_is_a_fault_that_names_it() {
    let sources = Sources { file: Some("no/such/file.yaml".into()), ..Sources::default() };
    let faults = Config::load(&sources).unwrap_err().to_string();
    assert!(faults.starts_with("no/such/file.yaml: cannot read the file"));
}

#[test]
fn no_more_than_the_limit_of_faults_is_reported() {
    let yaml: String = (0..300).map(|n| format!("wrong{n}: 1\n")).collect();
    let faults = Config::load(&given(&yaml).sources).unwrap_err();
    assert_eq!((faults.named.len(), faults.unnamed), (MAX_FAULTS, 200));
    assert!(faults.to_string().ends_with("\n300 faults in the configuration, 200 of them not shown"));
}

/// Files of up to a hundred thousand faults, each found in a time that grows with their number alone.
#[test]
fn however_many_faults_there_are_the_first_are_named_and_the_others_counted() {
    let lines = |line: &dyn Fn(usize) -> String, count: usize| (0..count).map(line).collect::<String>();
    let files = [
        (lines(&|n| format!("k{n}: 1\n"), 100_000), 100_000),
        ("http:\n".to_owned() + &lines(&|n| format!(" k{n}: 1\n"), 40_000), 40_000),
        ("http:\n".to_owned() + &"  workers: 1\n".repeat(40_000), 39_999),
        ("node:\n".to_owned() + &lines(&|n| format!(" k{n}: ${{K}}\n"), 30_000), 30_000),
        ("http: { allowed_hosts: [".to_owned() + &"'',".repeat(40_000) + "] }\n", 40_000),
    ];
    for (yaml, least) in files {
        let start = &yaml[..20];
        let faults = Config::load(&given(&yaml).sources).unwrap_err();
        let count = faults.named.len() + faults.unnamed;
        assert!(faults.named.len() == MAX_FAULTS && count >= least, "{start}: {count} of {least}");
    }
}

#[test]
fn there_are_so_many_streams_pipelines_tokens_and_users_at_most() {
    let many = |count: usize, item: &dyn Fn(usize) -> String| (0..count).map(item).collect::<String>();
    let stream = |n| format!("  s{n}: {{ schema: schemas/series_reading.avsc, key: series }}\n");
    let pipeline = |n| format!("  p{n}: {{ from: s{n} }}\n");
    let flows = |count| format!("streams:\n{}pipelines:\n{}", many(count, &stream), many(count, &pipeline));
    assert_eq!(given(&flows(256)).lines(), [""; 0]);
    let lines = given(&flows(257)).lines();
    assert_eq!(lines, ["1:1 streams: at most 256 streams", "259:1 pipelines: at most 256 pipelines"]);
    let tokens = many(1_001, &|n| format!("  - {{ name: t{n}, token: x{n} }}\n"));
    assert_eq!(given(&format!("auth:\n tokens:\n{tokens}")).lines(), ["2:2 auth.tokens: at most 1000 tokens"]);
    let users = many(1_001, &|n| format!("    - {{ name: u{n}, password: x }}\n"));
    let lines = given(&format!("kafka:\n embedded:\n  auth:\n   users:\n{users}")).lines();
    assert_eq!(lines, ["4:4 kafka.embedded.auth.users: at most 1000 users"]);
}

#[test]
fn a_pipe_or_a_huge_file_is_a_fault_at_once() {
    let given = given("node: { id: \"${file:pipe}\" }\nkafka: { consumer_group: \"${file:huge}\" }\n");
    let path = |name: &str| given.folder.path().join(name);
    rustix::fs::mkfifoat(rustix::fs::CWD, path("pipe"), rustix::fs::Mode::RUSR).unwrap();
    fs::File::create(path("huge")).unwrap().set_len(2 << 30).unwrap();
    let lines = given.lines();
    assert!(lines[0].starts_with("1:13 node.id: cannot read") && lines[0].ends_with("not a regular file"), "{lines:?}");
    assert!(
        lines[1].starts_with("2:26 kafka.consumer_group: ") && lines[1].ends_with("larger than 64KiB"),
        "{lines:?}"
    );
}

#[test]
fn what_files_and_variables_give_is_bounded_in_all() {
    let hosts: String = (0..80).map(|_| "  - ${file:host}\n").collect();
    let given = given(&format!("http:\n allowed_hosts:\n{hosts}"));
    fs::write(given.folder.path().join("host"), "h".repeat(60 << 10)).unwrap();
    let faults = given.faults();
    assert_eq!(faults.len(), 80 - (4 << 20) / (60 << 10), "{:?}", faults.first());
    assert!(faults[0].message.contains("no room"), "{}", faults[0]);
}

#[test]
fn certificates_that_cannot_be_used_are_a_fault_of_their_file() {
    for (file, reason) in [("no.pem", "No such file"), (".", "not a regular file"), ("config.yaml", "no certificate")] {
        let given = given("registry: { url: 'https://r:8081', ca_file: '${CA}' }\n");
        let path = given.folder.path().join(file).display().to_string();
        let lines = given.env("CA", &path).lines();
        assert!(lines.len() == 1 && lines[0].starts_with("1:45 registry.ca_file: "), "{lines:?}");
        assert!(lines[0].contains(reason), "{reason}: {lines:?}");
    }
}

#[test]
fn faults_of_overrides_name_the_override() {
    let lines = given("")
        .env("STREAMWARD__HTTP__WORKERS", "none")
        .set("http.wrkers", "1")
        .set("auth.tokens.3.name", "x")
        .set("http.websocket.queue", "0")
        .lines();
    assert_eq!(
        lines,
        [
            "--set auth.tokens.3.name auth.tokens.3.name: '3' is no item of this list, which has 0; 0 would append",
            "STREAMWARD__HTTP__WORKERS http.workers: expected a whole number from 0 to 4294967295, found \"none\"",
            "--set http.wrkers http.wrkers: unknown key 'wrkers', did you mean 'workers'?",
            "--set http.websocket.queue http.websocket.queue: 0 is not between 1 and 4096",
        ]
    );
}

#[test]
fn malformed_variables_and_missing_files_are_faults() {
    let lines = given("node:\n  id: ${}\n  data_dir: a${b\nkafka:\n  consumer_group: ${file:nope}\n").lines();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert_eq!(lines[0], "2:7 node.id: '${}' names no variable");
    assert_eq!(lines[1], "3:13 node.data_dir: '${' without '}'");
    assert!(lines[2].starts_with("5:19 kafka.consumer_group: cannot read "));
}

#[test]
fn no_fault_and_no_print_shows_a_secret() {
    let faulty = given(
        "auth:\n  tokens:\n    - { name: a, tken: hunter2, token: 5, role: hunter2 }\n    - { name: b, token: [hunter2] }\n\
         kafka:\n  client:\n    sasl.password: [hunter2]\nregistry: { url: \"ftp://u:hunter2@h\" }\n",
    );
    let shown = format!("{}", Config::load(&faulty.sources).unwrap_err());
    assert!(shown.contains("6 fault") && !shown.contains("hunter2"), "{shown}");
    let good = given(
        "auth: { tokens: [ { name: a, token: hunter2 } ] }\n\
         kafka: { client: { sasl.password: hunter2 } }\n\
         registry: { url: \"http://h/p\", auth: { user: a, password: hunter2 } }\n",
    )
    .config();
    let shown = format!("{good:?}{}", good.effective_yaml());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert_eq!(good.auth.tokens[0].token.expose(), "hunter2");
}

#[test]
fn a_registry_outside_is_a_url_with_credentials_given_once() {
    let cases = [
        ("url: example.org", "registry.url", "expected a URL"),
        ("url: \"http://a:b@h\", auth: { token: t }", "registry.url", "give them once"),
        ("url: \"http://h\", auth: { user: a, token: t }", "registry.auth.token", "not both"),
        ("url: \"http://h\", auth: { password: a }", "registry.auth.user", "needs a user"),
        ("url: \"http://h\", ca_file: ca.pem", "registry.ca_file", "no https URL"),
        ("embedded: { topic: \"a b\" }", "registry.embedded.topic", "a topic is"),
    ];
    for (yaml, path, message) in cases {
        let faults = given(&format!("registry: {{ {yaml} }}\n")).faults();
        let found: Vec<_> = faults.iter().map(|fault| (fault.path.as_str(), fault.message.as_str())).collect();
        assert!(matches!(found[..], [(at, said)] if at == path && said.contains(message)), "{yaml}: {found:?}");
    }
    let fine = given("registry: { url: \"https://a:b@h:8081/apis/ccompat/v7\" }\n").config();
    assert_eq!(fine.registry.url.unwrap().to_string(), "https://***@h:8081/apis/ccompat/v7");
}

#[test]
fn a_printed_config_does_not_make_its_placeholder_a_token() {
    let printed = given("auth: { tokens: [ { name: a, token: hunter2 } ] }\n").config().effective_yaml();
    let faults = given(&printed).faults();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].path, "auth.tokens.0.token");
}

#[test]
fn a_line_that_is_not_yaml_is_not_quoted_if_it_may_hold_a_secret() {
    let broken = given("auth:\n  tokens: [ { name: a, token: hunter2 \n");
    let shown = Config::load(&broken.sources).unwrap_err().to_string();
    assert!(shown.contains("not YAML") && !shown.contains("hunter2"), "{shown}");
}

#[test]
fn deep_nesting_is_refused() {
    let lines = given(&"[".repeat(5000)).lines();
    assert_eq!(lines.len(), 1);
    assert!(lines[0].contains("not YAML"), "{lines:?}");
}

#[test]
fn open_listeners_need_authentication_or_insecure() {
    let open = "http: { listen: 0.0.0.0:8000 }\nkafka: { embedded: { listen: \"[::]:9092\" } }\nregistry: { embedded: { listen: 10.0.0.1:8081 } }\n";
    let mut without = given(open);
    let paths: Vec<_> = without.faults().into_iter().map(|f| f.path).collect();
    assert_eq!(paths, ["http.listen", "kafka.embedded.listen", "registry.embedded.listen"]);
    without.sources.exposure = Exposure::Insecure;
    assert!(without.faults().is_empty());
    let with_token = given("http: { listen: 0.0.0.0:8000 }\nauth: { tokens: [ { name: a, token: abcdef } ] }\n");
    assert!(with_token.faults().is_empty());
    let outside = given("kafka: { bootstrap: \"k:9092\", embedded: { listen: 0.0.0.0:9092 } }\n");
    assert!(outside.faults().is_empty());
}

#[test]
fn an_open_broker_needs_users_and_passwords_that_nobody_can_read() {
    let kafka = |more: &str| {
        let yaml = format!("kafka: {{ embedded: {{ listen: 0.0.0.0:9092, {more} }} }}\n");
        let faults = given(&yaml).faults();
        faults.into_iter().map(|fault| fault.path).collect::<Vec<_>>()
    };
    let users = "users: [ { name: a, password: b } ]";
    assert_eq!(kafka("auth: {}"), ["kafka.embedded.listen"]);
    assert!(kafka(&format!("auth: {{ {users} }}")).is_empty());
    let plain = format!("auth: {{ {users}, mechanisms: [PLAIN] }}");
    assert_eq!(kafka(&plain), ["kafka.embedded.auth.mechanisms"]);
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let tls = format!("tls: {{ certificate: {:?}, key: {:?} }}", made.cert.pem(), made.signing_key.serialize_pem());
    assert!(kafka(&format!("{plain}, {tls}")).is_empty());
    assert_eq!(kafka(&tls), ["kafka.embedded.listen"]);
}

#[test]
fn users_and_certificates_of_the_broker_are_checked() {
    let yaml = "\
kafka:
  embedded:
    local_listen: 0.0.0.0:0
    advertised_host: kafka:9092/
    auth:
      mechanisms: []
      reauthenticate_after: 0s
      users:
        - { name: a, password: \"***\" }
        - { name: a }
    tls: { certificate: cert.pem }
";
    assert_eq!(
        given(yaml).lines(),
        [
            "7:29 kafka.embedded.auth.reauthenticate_after: 0s is not between 1s and 365d",
            "3:19 kafka.embedded.local_listen: must be a loopback address: its clients send passwords",
            "4:22 kafka.embedded.advertised_host: expected a host such as kafka.example.org, without a port",
            "11:5 kafka.embedded.tls: certificate and key belong together: one is given without the other",
            "11:25 kafka.embedded.tls.certificate: expected PEM text, for example from a file: ${file:tls/broker.pem}",
            "9:32 kafka.embedded.auth.users.0.password: this stands for a hidden password and is none",
            "10:11 kafka.embedded.auth.users.1.password: a password is missing, or has a NUL",
            "10:19 kafka.embedded.auth.users.1.name: another user has this name",
            "6:7 kafka.embedded.auth.mechanisms: at least one mechanism is needed",
        ]
    );
}

#[test]
fn what_stands_for_a_hidden_secret_of_the_registry_is_none() {
    let given = |auth: &str| given(&format!("registry: {{ url: 'http://r:1', auth: {{ {auth} }} }}\n")).lines();
    let password = given("user: me, password: '***'");
    assert!(
        password[0].ends_with("registry.auth.password: this stands for a hidden password and is none"),
        "{password:?}"
    );
    let token = given("token: '***'");
    assert!(token[0].ends_with("registry.auth.token: this stands for a hidden token and is none"), "{token:?}");
}

#[test]
fn two_listeners_on_one_port_are_refused_except_port_0() {
    let lines = given("registry: { embedded: { listen: 127.0.0.1:8000 } }\n").lines();
    assert_eq!(lines, ["1:33 registry.embedded.listen: 127.0.0.1:8000 is the address of http.listen already"]);
    let free = given("http: { listen: 127.0.0.1:0 }\nkafka: { embedded: { listen: localhost:0 } }\n");
    assert!(free.faults().is_empty());
}

#[test]
fn rules_between_sections_are_checked() {
    let yaml = "\
alerts: { topic: x }
streams:
  A: { topic: x, schema: s, key: k }
  b: { topic: y, table: alerts, partitions: 5000 }
pipelines:
  p:
    from: b
    to: []
    steps:
      - window: { name: w, group_by: [k, k], select: { k: count(*) } }
      - window: { name: w, select: {} }
      - rule: { name: r }
  q: { from: b, batch: { max_records: 0 }, supervision: { max_restarts: 0 } }
kafka: { client: { group.id: x } }
";
    assert_eq!(
        given(yaml).lines(),
        [
            "13:39 pipelines.q.batch.max_records: 0 is not between 1 and 65536",
            "13:73 pipelines.q.supervision.max_restarts: 0 is not between 1 and 10000",
            "4:45 streams.b.partitions: 5000 is not between 1 and 1024",
            "14:30 kafka.client.group.id: 'group.id' cannot be set here: kafka.consumer_group decides it",
            "3:3 streams.A: 'A' is not a name: lower case letters, digits and '_', a letter first, at most 63",
            "3:15 streams.A.topic: 'x' is taken by alerts.topic already",
            "4:3 streams.b.schema: a stream needs an Avro schema file",
            "4:3 streams.b.key: a stream needs the field that is its key",
            "4:25 streams.b.table: the product has a table of this name itself",
            "8:5 pipelines.p.to: a pipeline has exactly one sink: [sql]",
            "10:42 pipelines.p.steps.0.window.group_by.1: expected a field that is not in the list already",
            "10:59 pipelines.p.steps.0.window.select.k: group_by has a column of this name",
            "11:28 pipelines.p.steps.1.window.select: a window needs at least one column, such as count: count(*)",
            "12:9 pipelines.p.steps.2.rule.when: a condition is missing",
            "11:25 pipelines.p.steps.1.window.name: 'w' is taken by pipelines.p.steps.0.window.name already",
            "13:14 pipelines.q.from: 'b' is taken by pipelines.p.from already",
        ]
    );
}

#[test]
fn a_faulty_item_does_not_move_the_places_of_later_ones() {
    let yaml = format!(
        "{STREAM}    \nauth:\n  tokens:\n    - 5\n    - {{ name: b, token: \"\" }}\n    - {{ name: b, token: x }}\n"
    );
    assert_eq!(
        given(&yaml).lines(),
        [
            "8:7 auth.tokens.0: expected a map of keys",
            "9:25 auth.tokens.1.token: a token is visible ASCII characters without spaces",
            "10:15 auth.tokens.2.name: another token has this name",
        ]
    );
}

#[test]
fn later_checks_point_at_the_place_of_a_path() {
    let loaded = given("").set("pipelines.series.steps.0.window.tumbling", "2h").loaded();
    let fault = loaded.fault_at("pipelines.sensors.steps.1.window.select.avg_value", "no field 'valu'");
    let line = DEFAULT_YAML.lines().position(|line| line.contains("avg_value: avg(value)")).unwrap() + 1;
    assert_eq!(fault.origin, format!("{BUILT_IN_NAME}:{line}:24"));
    let shown = fault.to_string();
    assert!(shown.contains("            avg_value: avg(value)"), "{shown}");
    assert_eq!(
        loaded.fault_at("pipelines.series.steps.0.window.tumbling", "x").origin,
        "--set pipelines.series.steps.0.window.tumbling"
    );
    let absent = loaded.fault_at("streams.series.event_time", "no such field");
    assert_eq!(absent.path, "streams.series.event_time");
    assert!(absent.to_string().contains("  series:"), "{absent}");
}

#[test]
fn topics_that_kafka_does_not_make_beside_each_other_are_refused_with_both_names_and_places() {
    let stream = |name: &str, topic: &str| format!("  {name}: {{ topic: {topic}, schema: s, key: k }}\n");
    let two =
        |one: &str, other: &str| format!("streams:\n{}{}pipelines: {{}}\n", stream("one", one), stream("two", other));
    let cases = [
        (two("a.b", "a_b"), "streams.two.topic", "'a_b' and 'a.b' (streams.one.topic) differ in '.' and '_' alone"),
        (two("a_b.c", "a.b_c"), "streams.two.topic", "'a.b_c' and 'a_b.c' (streams.one.topic)"),
        (two("t", "dlq_messages") + "dlq: { topic: dlq.messages }\n", "streams.two.topic", "(dlq.topic)"),
        (two("t", "x.alerts") + "alerts: { topic: x_alerts }\n", "streams.two.topic", "(alerts.topic)"),
        (two("t", ".schemas"), "streams.two.topic", "'.schemas' and '_schemas' (registry.embedded.topic)"),
        (two("t", "u") + "alerts: { topic: a.b }\ndlq: { topic: a_b }\n", "dlq.topic", "(alerts.topic)"),
        (two("t", "u") + "alerts: { topic: _schemas }\n", "alerts.topic", "is taken by registry.embedded.topic"),
        (two("t", "_.offsets"), "streams.two.topic", "is a topic of brokers"),
        (
            "streams:\n  a_b: { schema: s, key: k }\n".to_owned() + &stream("two", "a.b"),
            "streams.two.topic",
            "(streams.a_b.topic)",
        ),
    ];
    for (yaml, path, words) in cases {
        let faults = given(&yaml).faults();
        assert!(faults.iter().any(|fault| fault.path == path && fault.message.contains(words)), "{yaml}\n{faults:#?}");
    }
    assert_eq!(given(&two("a.b", "a-b")).lines(), [""; 0]);
}

#[test]
fn a_topic_that_kafka_has_no_name_for_is_refused_wherever_it_is_named() {
    let long = "t".repeat(250);
    for topic in [long.as_str(), "'.'", "'..'", "a/b", "'a b'", "ä", "''"] {
        for (path, yaml) in [
            ("streams.one.topic", format!("streams:\n  one: {{ topic: {topic}, schema: s, key: k }}\n")),
            ("alerts.topic", format!("alerts: {{ topic: {topic} }}\n")),
            ("dlq.topic", format!("dlq: {{ topic: {topic} }}\n")),
            ("registry.embedded.topic", format!("registry: {{ embedded: {{ topic: {topic} }} }}\n")),
        ] {
            let faults = given(&yaml).faults();
            let words = "a topic is 1 to 249 letters";
            assert!(
                faults.iter().any(|fault| fault.path == path && fault.message.contains(words)),
                "{yaml}\n{faults:#?}"
            );
        }
    }
    assert_eq!(given(&format!("streams:\n  one: {{ topic: {}, schema: s, key: k }}\n", &long[1..])).lines(), [""; 0]);
}

#[test]
fn a_kind_of_sensor_that_is_there_twice_is_refused_at_its_second_place() {
    let types = |types: &str| given(&format!("simulators: {{ sensors: {{ types: [{types}] }} }}\n")).lines();
    assert_eq!(
        types("humidity, pressure, humidity, humidity"),
        [
            "1:54 simulators.sensors.types.2: this type is in the list already",
            "1:64 simulators.sensors.types.3: this type is in the list already",
        ]
    );
    assert_eq!(types(""), ["1:26 simulators.sensors.types: at least one type is needed"]);
    assert_eq!(types("pressure, temperature, humidity"), [""; 0]);
}
