//! The commands beside `run`, and how `run` refuses to start.

use std::{
    fs,
    process::{Child, Command},
};

use serde_json::Value;

use crate::support::{
    server::{Node, run},
    wait::{self, at_least, is},
};

/// Runs `check` in a folder with this `config.yaml`.
fn check(yaml: &str) -> (Option<i32>, String) {
    let node = Node::new();
    fs::write(node.path("config.yaml"), yaml).unwrap();
    let (code, _, complaint) = run(&node, &["check"]);
    (code, complaint)
}

#[test]
fn the_built_in_configuration_is_fine() {
    assert_eq!(run(&Node::new(), &["check"]), (Some(0), "the configuration is fine\n".to_owned(), String::new()));
}

#[test]
fn check_reports_every_fault_at_its_line() {
    let (code, complaint) = check(
        "http:\n  lisen: 127.0.0.1:0\nstorage:\n  checkpoint_every: soon\nstreams:\n  sensors:\n    \
         schema: schemas/sensor_reading.avsc\n    key: sensor_id\n    partitions: 0\n",
    );
    assert_eq!(code, Some(2));
    for (line, key) in [(2, "http.lisen"), (4, "storage.checkpoint_every"), (9, "streams.sensors.partitions")] {
        let place = format!("config.yaml:{line}:");
        let reported = complaint.lines().any(|text| text.contains(&place) && text.contains(key));
        assert!(reported, "{place} {key} is not in\n{complaint}");
    }
}

#[test]
fn check_reports_every_wrong_expression_at_its_line() {
    let (code, complaint) = check(
        "pipelines:\n  sensors:\n    from: sensors\n    steps:\n      - filter: valeu > 3\n      - rule:\n          \
         name: hot\n          when: sensor_type + 1\n",
    );
    assert_eq!(code, Some(2));
    for (line, word) in [(5, "valeu"), (8, "pipelines.sensors.steps.1.rule.when")] {
        let place = format!("config.yaml:{line}:");
        let reported = complaint.lines().any(|text| text.contains(&place) && text.contains(word));
        assert!(reported, "{place} {word} is not in\n{complaint}");
    }
}

#[test]
fn check_reports_wrong_expressions_beside_wrong_keys() {
    let (code, complaint) = check(
        "http:\n  lisen: x\npipelines:\n  sensors:\n    from: sensors\n    steps:\n      - filtr: value > 3\n      \
         - rule: { name: hot, severity: warn, when: valeu > 3 }\n      - filter: valeu > 4\n      - filter: ''\n",
    );
    assert_eq!(code, Some(2));
    let wanted = [
        (2, "http.lisen: unknown key"),
        (7, "pipelines.sensors.steps.0.filtr: unknown key"),
        (8, "pipelines.sensors.steps.1.rule.severity: unknown value"),
        (8, "pipelines.sensors.steps.1.rule.when: unknown field 'valeu'"),
        (9, "pipelines.sensors.steps.2.filter: unknown field 'valeu'"),
        (10, "pipelines.sensors.steps.3.filter: an expression is missing"),
    ];
    for (line, fault) in wanted {
        let place = format!("config.yaml:{line}:");
        let reported = complaint.lines().any(|text| text.starts_with(&place) && text.contains(fault));
        assert!(reported, "{place} {fault} is not in\n{complaint}");
    }
    assert!(complaint.ends_with(&format!("{} faults in the configuration\n", wanted.len())), "{complaint}");
}

#[test]
fn an_address_that_others_reach_is_refused_without_tokens_unless_insecure() {
    let node = Node::new();
    let open = ["check", "--set", "http.listen=0.0.0.0:0"];
    let (code, _, complaint) = run(&node, &open);
    assert_eq!(code, Some(2));
    assert!(complaint.contains("--insecure"), "{complaint}");
    assert_eq!(run(&node, &[&open[..], &["--insecure"]].concat()).0, Some(0));
}

#[test]
fn the_effective_configuration_is_one_that_check_accepts() {
    let node = Node::new();
    let (code, yaml, _) = run(&node, &["config", "--effective", "--set", "http.workers=3"]);
    assert_eq!(code, Some(0));
    assert!(yaml.contains("workers: 3"), "{yaml}");
    assert_eq!(check(&yaml), (Some(0), String::new()));
    let (code, schema, _) = run(&node, &["config", "--schema"]);
    let schema: Value = serde_json::from_str(&schema).unwrap();
    assert_eq!((code, schema["type"].as_str()), (Some(0), Some("object")));
}

#[actix_rt::test]
async fn a_second_server_on_a_data_folder_ends_with_2_and_names_it() {
    let server = Node::new().start().await;
    let (code, _, complaint) = run(server.node(), &["run"]);
    assert_eq!(code, Some(2));
    assert!(complaint.contains(&*server.node().data().to_string_lossy()), "{complaint}");
    assert_eq!(server.http.get("/health/ready").await["ready"], true);
}

#[test]
fn a_port_in_use_is_named_with_its_setting_and_a_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let listeners = ["http.listen", "kafka.embedded.listen", "kafka.embedded.local_listen", "registry.embedded.listen"];
    for key in listeners {
        let free = listeners.iter().filter(|other| **other != key).map(|other| format!("{other}=127.0.0.1:0"));
        let sets: Vec<String> = free.chain([format!("{key}={address}")]).collect();
        let arguments = sets.iter().flat_map(|set| ["--set", set]);
        let (code, _, complaint) = run(&Node::new(), &["run"].into_iter().chain(arguments).collect::<Vec<_>>());
        assert_eq!(code, Some(2), "{complaint}");
        let cause = format!("{key}: cannot listen on {address}: Address already in use");
        let way = format!("--set {key}=127.0.0.1:0");
        assert!(complaint.contains(&cause) && complaint.contains(&way), "{complaint}");
    }
}

#[actix_rt::test]
async fn tree_shows_each_actor_of_a_running_server() {
    let server = Node::new().start().await;
    let url = format!("http://{}", server.http.address());
    let (code, tree, complaint) = run(server.node(), &["tree", "--url", &url]);
    assert_eq!(code, Some(0), "{complaint}");
    for actor in ["platform", "broker", "pipelines", "lane", "sink", "source", "dead-letters", "retention"] {
        assert!(tree.contains(actor), "{actor} is not in\n{tree}");
    }
}

#[actix_rt::test]
async fn a_drill_reports_how_the_actor_healed() {
    let server = Node::new().with_simulators().with_drills().start().await;
    let url = format!("http://{}", server.http.address());
    wait::until("the lane works", async || {
        let lane = server.http.actor("pipelines/sensors/lane").await?;
        at_least(lane["processed"].as_u64().unwrap_or_default(), &1)
    })
    .await;
    let drill =
        |path: &str, more: &[&str]| run(server.node(), &[&["drill", path, "--url", &url, "--json"], more].concat());
    for (fault, times) in [("panic", "1"), ("error", "1"), ("panic", "3")] {
        let (code, report, complaint) = drill("pipelines/sensors/lane", &["--fault", fault, "--times", times]);
        assert_eq!(code, Some(0), "{report}{complaint}");
        let report: Value = serde_json::from_str(&report).unwrap();
        assert!(times == "3" || report["exit"]["reason"] == fault, "{report}");
        assert!(report["recovered_after_ms"].as_u64() >= report["detected_after_ms"].as_u64(), "{report}");
        assert_eq!([&report["records"]["lost"], &report["records"]["duplicated"]], [0, 0], "{report}");
    }
    for (path, reason) in [("pipelines/nobody", "nothing at pipelines/nobody"), ("edge/http", "would go with it")] {
        let (code, _, complaint) = drill(path, &[]);
        assert!(code == Some(4) && complaint.contains(reason), "{complaint}");
    }
}

#[test]
fn a_start_without_its_kafka_or_its_registry_ends_with_3_and_names_the_address_the_cause_and_the_setting() {
    let dead = "127.0.0.1:1";
    let kafka = Node::new().set("kafka.bootstrap", dead).set("kafka.start_timeout", "1s");
    let url = format!("http://{dead}");
    let registry = Node::new().set("registry.url", &url).set("registry.start_timeout", "5s");
    let cases = [
        (kafka, ["kafka.bootstrap 127.0.0.1:1", "refused", "nobody answers within kafka.start_timeout (1s)"]),
        (registry, ["127.0.0.1:1", "refused", "registry.start_timeout (5s) is over"]),
    ];
    for (node, words) in cases {
        let (code, said) = node.ends();
        assert_eq!(code, Some(3), "{said}");
        assert!(words.iter().all(|word| said.contains(word)), "{said} without {words:?}");
    }
}

#[actix_rt::test]
async fn an_address_of_a_web_server_is_told_where_one_of_kafka_is_wanted() {
    let server = Node::new().start().await;
    let http = server.http.address();
    let node = Node::new().set("kafka.bootstrap", http).set("kafka.start_timeout", "2s");
    fs::write(node.path("a.csv"), "timestamp,value\n2026-01-01,1\n").unwrap();
    let told = format!("{http}/bootstrap: ");
    let words = ["a web server answers there, and no Kafka broker", "kafka.embedded.listen", &told];
    let (code, said) = node.ends();
    assert!(code == Some(3) && words.iter().all(|word| said.contains(word)), "{code:?}: {said}");
    let (code, _, said) = run(&node, &["replay", "a.csv", "--bootstrap", http]);
    assert!(code == Some(3) && words.iter().all(|word| said.contains(word)), "{code:?}: {said}");
    for bootstrap in ["http://127.0.0.1:8000", "me:secret@127.0.0.1:9092"] {
        let (code, _, said) = run(&node, &["replay", "a.csv", "--bootstrap", bootstrap]);
        let is_told = said.contains("--bootstrap: brokers are written as host:port, without credentials or protocol");
        assert!(code == Some(2) && is_told && !said.contains("secret@"), "{code:?}: {said}");
    }
}

#[test]
fn the_exit_code_tells_what_kind_of_error_it_is() {
    let node = Node::new();
    fs::write(node.path("a.csv"), "timestamp,value\nsoon,1\n").unwrap();
    let cases: [(&[&str], i32, &str); 10] = [
        (&["tree", "--nonsense"], 2, "--nonsense"),
        (&["run", "--ready-file", "nowhere/ready.json"], 2, "--ready-file nowhere/ready.json: this has to be a file"),
        (&["tree", "--url", "ftp://a"], 2, "ftp is not http or https"),
        (&["schema", "list", "--url", "ftp://a"], 2, "--url: ftp is not http or https"),
        (&["replay", "a.csv", "--stream", "nobody"], 2, "there is no stream nobody"),
        (&["replay", "missing.csv", "--bootstrap", "127.0.0.1:1"], 2, "missing.csv: No such file"),
        (&["tree", "--url", "127.0.0.1:1/below/"], 3, "127.0.0.1:1 does not answer: connection refused"),
        (&["drill", "a", "--url", "http://[::1]:1"], 3, "[::1]:1 does not answer"),
        (&["schema", "list", "--url", "127.0.0.1:1"], 3, "http://127.0.0.1:1"),
        (&["replay", "a.csv", "--bootstrap", "127.0.0.1:1"], 3, "the broker 127.0.0.1:1 cannot be reached"),
    ];
    for (arguments, wanted, reason) in cases {
        let (code, _, complaint) = run(&node, arguments);
        assert!(code == Some(wanted) && complaint.contains(reason), "{arguments:?}: {code:?} {complaint}");
        assert!(!complaint.contains("/api/v1/"), "{complaint}");
    }
}

#[test]
fn each_help_ends_with_the_exit_codes() {
    let node = Node::new();
    let commands = [
        "run",
        "check",
        "config",
        "replay",
        "verify",
        "bench",
        "schema",
        "topics",
        "tree",
        "drill",
        "completions",
        "man",
    ];
    let below: [&[&str]; 3] = [&["topics", "tail"], &["schema", "check"], &["bench", "pipeline"]];
    for command in commands.iter().map(std::slice::from_ref).chain(below).chain([&[][..]]) {
        let help = node.command(&[]).args(command).arg("--help").output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        let codes = "Exit codes: 0 done, 1 a check failed, 2 usage,";
        assert!(help.split_whitespace().collect::<Vec<_>>().join(" ").contains(codes), "{command:?}: {help}");
    }
}

/// A command that runs on, with its output in the node's files `out` and `err`.
fn started(node: &Node, arguments: &[&str]) -> Child {
    let file = |name: &str| fs::File::create(node.path(name)).unwrap();
    node.command(arguments).stdout(file("out")).stderr(file("err")).spawn().unwrap()
}

fn signalled(child: &Child, signal: &str) {
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
}

/// Exit code, output and complaint of a [`started`] command.
fn ended(node: &Node, mut child: Child) -> (Option<i32>, String, String) {
    let code = child.wait().unwrap().code();
    let text = |name: &str| fs::read_to_string(node.path(name)).unwrap();
    (code, text("out"), text("err"))
}

#[actix_rt::test]
async fn an_interrupted_drill_takes_its_fault_back_and_tells_what_was_observed() {
    let server = Node::new().with_drills().start().await;
    let (node, url) = (server.node(), format!("http://{}", server.http.address()));
    let armed = async || Ok::<Value, String>(server.http.actor("pipelines/series/lane").await?["armed_faults"].clone());
    for signal in ["-INT", "-TERM"] {
        let drill =
            started(node, &["drill", "pipelines/series/lane", "--fault", "slow", "--times", "300", "--url", &url]);
        wait::until("the fault is armed", async || is(armed().await?, &300.into())).await;
        wait::until("the drill says what it waits for", async || {
            let said = fs::read_to_string(node.path("err")).unwrap();
            let words =
                ["pipelines/series/lane has nothing to do", "write a record", "interrupt to take the fault back"];
            if words.iter().all(|word| said.contains(word)) { Ok(()) } else { Err(said) }
        })
        .await;
        signalled(&drill, signal);
        let (code, report, complaint) = ended(node, drill);
        assert_eq!(code, Some(130), "{report}{complaint}");
        assert!(report.contains("nothing was injected: the fault was taken back before"), "{report}{complaint}");
        assert_eq!(armed().await, Ok(0.into()));
    }
    let drill =
        started(node, &["drill", "platform/broker", "--fault", "broker-drop", "--lasting", "40s", "--url", &url]);
    // The broker closes connections at once during an outage, and waits for requests else.
    let is_closed = || {
        let mut connection = std::net::TcpStream::connect(server.kafka()).unwrap();
        connection.set_read_timeout(Some(std::time::Duration::from_millis(200))).unwrap();
        std::io::Read::read(&mut connection, &mut [0]).is_ok_and(|bytes| bytes == 0)
    };
    wait::until("connections are closed", async || is(is_closed(), &true)).await;
    signalled(&drill, "-INT");
    let (code, report, complaint) = ended(node, drill);
    assert!(code == Some(130) && report.contains("broker_drop"), "{report}{complaint}");
    wait::until("connections are taken again", async || is(is_closed(), &false)).await;
}

#[actix_rt::test]
async fn an_interrupted_drill_of_a_server_that_has_gone_says_that_the_fault_was_not_taken_back() {
    let server = Node::new().with_drills().start().await;
    let url = format!("http://{}", server.http.address());
    let drill = started(server.node(), &["drill", "pipelines/series/lane", "--url", &url]);
    wait::until("the fault is armed", async || {
        is(server.http.actor("pipelines/series/lane").await?["armed_faults"].clone(), &1.into())
    })
    .await;
    let pid = server.pid().to_string();
    assert!(Command::new("kill").args(["-STOP", &pid]).status().unwrap().success());
    signalled(&drill, "-INT");
    let path = server.node().path("err");
    wait::until("the command takes it back", async || {
        let said = fs::read_to_string(&path).unwrap();
        if said.contains("interrupted: the fault is taken back") { Ok(()) } else { Err(said) }
    })
    .await;
    let node = server.kill();
    let (code, _, complaint) = ended(&node, drill);
    assert_eq!(code, Some(130), "{complaint}");
    assert!(complaint.contains("the fault of pipelines/series/lane may still strike"), "{complaint}");
}

#[actix_rt::test]
async fn an_interrupted_watch_writes_plain_frames_and_ends_with_a_summary() {
    let server = Node::new().start().await;
    let (node, url) = (server.node(), format!("http://{}", server.http.address()));
    let watch = started(node, &["tree", "--watch", "--url", &url]);
    let frames = || fs::read_to_string(node.path("out")).unwrap().matches("ACTOR").count();
    wait::until("there are frames", async || at_least(frames(), &2)).await;
    signalled(&watch, "-INT");
    let (code, output, complaint) = ended(node, watch);
    assert_eq!(code, Some(130), "{complaint}");
    assert!(!output.contains('\u{1b}') && output.contains("\n\nACTOR"), "{output:?}");
    assert!(complaint.starts_with("interrupted: ") && complaint.contains("actors and supervisors"), "{complaint}");
    let tail = started(node, &["topics", "tail", "sensor-readings", "--follow", "--from", "earliest", "--url", &url]);
    let body = serde_json::json!({"value": "words"});
    let shown = || fs::read_to_string(node.path("out")).unwrap();
    wait::until("a record is shown", async || {
        server.http.post("/api/v1/topics/sensor-readings/records", &body).await;
        if shown().contains("words") { Ok(()) } else { Err(shown()) }
    })
    .await;
    signalled(&tail, "-INT");
    let (code, output, complaint) = ended(node, tail);
    let records = output.lines().count();
    let wanted =
        format!("interrupted: {records} record{} of sensor-readings shown\n", if records == 1 { "" } else { "s" });
    assert_eq!((code, complaint), (Some(130), wanted));
}

#[test]
fn completions_and_manual_pages_are_printed() {
    let node = Node::new();
    let (code, script, _) = run(&node, &["completions", "bash"]);
    assert!(code == Some(0) && script.contains("complete -F _streamward"), "{script}");
    let (code, page, _) = run(&node, &["man"]);
    assert!(code == Some(0) && page.contains(".TH streamward 1"), "{page}");
    assert_eq!(run(&node, &["man", "--dir", "pages"]).0, Some(0));
    assert!(node.path("pages/streamward-topics-tail.1").is_file());
}

#[actix_rt::test]
async fn a_command_without_a_token_is_told_how_to_give_one() {
    let node = Node::new().set("auth.tokens", r#"[{"name": "ops", "role": "admin", "token": "a-long-secret-of-ops"}]"#);
    let server = node.start_unready().await;
    let (code, _, complaint) = run(server.node(), &["tree", "--url", server.http.address()]);
    assert!(code == Some(4) && complaint.contains("give it with --token or STREAMWARD_TOKEN"), "{complaint}");
}

#[actix_rt::test]
async fn a_reader_that_has_gone_ends_a_command_quietly() {
    let server = Node::new().with_simulators().start().await;
    let (node, url) = (server.node(), format!("http://{}", server.http.address()));
    let body = serde_json::json!({"value": "words"});
    server.http.post("/api/v1/topics/sensor-readings/records", &body).await;
    let lines = [
        format!("streamward topics tail sensor-readings --from earliest --follow --url {url} 2>&1"),
        format!("streamward tree --watch --url {url} 2>&1"),
        format!("streamward tree --url {url}"),
        "streamward config --schema".to_owned(),
        "streamward man".to_owned(),
        "streamward --help".to_owned(),
        "streamward check --set http.workers=none 2>&1".to_owned(),
    ];
    for line in lines {
        let wanted = if line.contains("check") { "2" } else { "0" };
        let piped = format!("{{ {line}; echo $? > code; }} | head -c 1; cat code");
        let output = node.shell(&piped).output().unwrap();
        let (said, complaint) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert_eq!((said.get(1..).map(str::trim), &*complaint), (Some(wanted), ""), "{line}");
    }
}

#[actix_rt::test]
async fn an_output_that_cannot_be_written_is_named_and_ends_with_2() {
    let server = Node::new().start().await;
    let (node, url) = (server.node(), format!("http://{}", server.http.address()));
    let commands = [
        format!("tree --url {url}"),
        format!("topics list --url {url}"),
        format!("topics tail sensor-readings --from earliest --url {url}"),
        format!("schema list --url http://{}", server.registry),
        format!("verify --data-dir data --bootstrap {}", server.kafka()),
        "check".to_owned(),
        "config".to_owned(),
        "completions bash".to_owned(),
        "man".to_owned(),
        "--version".to_owned(),
        "tree --help".to_owned(),
    ];
    server.http.post("/api/v1/topics/sensor-readings/records", &serde_json::json!({"value": "words"})).await;
    for command in commands {
        let output = node.shell(&format!("streamward {command} > /dev/full")).output().unwrap();
        let complaint = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}: {complaint}");
        let named = "streamward: the output cannot be written: No space left on device";
        assert!(complaint.starts_with(named), "{command}: {complaint}");
    }
}

#[actix_rt::test]
async fn a_certificate_that_has_expired_is_told_by_check_and_at_the_start() {
    let node = Node::new();
    let mut certificate = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    certificate.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let key = rcgen::KeyPair::generate().unwrap();
    fs::write(node.path("broker.pem"), certificate.self_signed(&key).unwrap().pem()).unwrap();
    fs::write(node.path("broker.key"), key.serialize_pem()).unwrap();
    let tls = "tls: { certificate: \"${file:broker.pem}\", key: \"${file:broker.key}\" }";
    fs::write(node.path("config.yaml"), format!("kafka: {{ embedded: {{ {tls} }} }}\n")).unwrap();
    let words = "kafka.embedded.tls.certificate has expired";
    let (code, said, complaint) = run(&node, &["check"]);
    assert!(code == Some(0) && format!("{said}{complaint}").contains(words), "{code:?}: {said}{complaint}");
    let server = node.start().await;
    let log = fs::read_to_string(server.node().path("log")).unwrap();
    assert!(log.contains(words), "{log}");
}
