//! Policies from the configuration, drills, and what a standstill looks like from outside.

use serde_json::{Value, json};

use crate::support::{
    server::{Node, Server, run},
    wait::{self, at_least, is},
};

/// Every actor of the built-in configuration, and the supervisors that have none below them: no session, no simulator.
const ACTORS: [&str; 20] = [
    "platform/broker",
    "platform/registry/follower",
    "platform/registry/http",
    "platform/registry/registration",
    "pipelines/sensors/sink",
    "pipelines/sensors/lane",
    "pipelines/sensors/source",
    "pipelines/series/sink",
    "pipelines/series/lane",
    "pipelines/series/source",
    "relays/alerts",
    "relays/dead-letters",
    "edge/announcer",
    "edge/http",
    "ops/upkeep",
    "ops/retention",
    "ops/standstill",
    "ops/lag",
    "edge/sessions",
    "simulators",
];

fn drill(server: &Server, arguments: &[&str]) -> (Option<i32>, String, String) {
    let url = format!("http://{}", server.http.address());
    run(server.node(), &[&["drill", "--url", &url], arguments].concat())
}

async fn processes(server: &Server, actor: &str) {
    wait::until("the actor works", async || {
        let node = server.http.actor(actor).await?;
        at_least(node["processed"].as_u64().unwrap_or_default(), &1).map_err(|error| format!("{error}: {node}"))
    })
    .await;
}

#[actix_rt::test]
async fn each_actor_has_the_policy_that_the_configuration_gives_it() {
    let keys = ACTORS.map(|path| format!("supervision.actors.{path}.shutdown"));
    let mut node = Node::new().set("supervision.actors.pipelines/series.strategy", "rest_for_one");
    for (seconds, key) in (100..).zip(&keys) {
        node = node.set(key, &format!("{seconds}s"));
    }
    let server = node.start().await;
    for (seconds, path) in (100..).zip(ACTORS) {
        let actor = server.http.actor(path).await.unwrap();
        let limit = actor["policy"]["stop_within"].as_str().unwrap();
        assert_eq!(limit, format!("{}m{}s", seconds / 60, seconds % 60).replace("m0s", "m"), "{path}");
    }
    assert_eq!(server.http.actor("pipelines/series").await.unwrap()["strategy"], "rest-for-one");
    assert_eq!(server.http.actor("pipelines/sensors").await.unwrap()["strategy"], "one-for-one");
    let mut leaves = Vec::new();
    collect(&server.http.get("/api/v1/supervision/tree").await, &mut leaves);
    let mut expected = ACTORS.map(str::to_owned).to_vec();
    leaves.sort();
    expected.sort();
    assert_eq!(leaves, expected);
}

fn collect(node: &Value, leaves: &mut Vec<String>) {
    match node["children"].as_array().map(Vec::as_slice) {
        Some([]) | None => leaves.push(node["path"].as_str().unwrap().to_owned()),
        Some(children) => children.iter().for_each(|child| collect(child, leaves)),
    }
}

#[test]
fn a_path_without_an_actor_is_a_fault_of_the_configuration() {
    let node = Node::new();
    let yaml = "supervision:\n  actors:\n    pipelines/sensor/lane: { stuck_after: 1s }\n    \
                ops/lag: { strategy: one_for_all }\n    relays: { backoff: { min: 2s, max: 1s } }\n";
    std::fs::write(node.path("config.yaml"), yaml).unwrap();
    let (code, _, complaint) = run(&node, &["check"]);
    assert_eq!(code, Some(2));
    for expected in [
        "config.yaml:3:5: supervision.actors.pipelines/sensor/lane: no actor is there; there are platform/broker, ",
        "config.yaml:4:5: supervision.actors.ops/lag: strategy and intensity are for supervisors",
        "supervision.actors.relays.backoff.max: must not be less than min",
    ] {
        assert!(complaint.contains(expected), "{expected} is not in\n{complaint}");
    }
}

#[actix_rt::test]
async fn drills_from_outside_an_actor_report_what_became_of_the_records() {
    let server = Node::new().with_simulators().with_drills().set("simulators.sensors.speed", "20").start().await;
    processes(&server, "pipelines/sensors/lane").await;
    let cases: [&[&str]; 4] = [
        &["pipelines/sensors/sink", "--fault", "slow", "--times", "3", "--lasting", "100ms"],
        &["platform/broker", "--fault", "broker-drop", "--lasting", "500ms"],
        &["pipelines/sensors", "--fault", "corrupt-record", "--times", "7", "--seed", "3"],
        &["pipelines/sensors/lane", "--fault", "stall", "--lasting", "200ms"],
    ];
    for case in cases {
        let (code, report, complaint) = drill(&server, &[case, &["--json"]].concat());
        assert_eq!(code, Some(0), "{case:?} {report}{complaint}");
        let report: Value = serde_json::from_str(&report).unwrap();
        assert!(report["exit"].is_null() && report["records"]["lost"] == 0, "{report}");
        let why = report["observed"].as_str().unwrap().contains("before its stuck_after of 30s was over");
        assert_eq!(why, case.contains(&"stall"), "{report}");
    }
    assert_eq!(server.database().count("dead_letters").await, 7);
    for (path, fault) in [("pipelines/sensors/lane", "broker-drop"), ("ops/lag", "corrupt-record")] {
        let (code, _, complaint) = drill(&server, &[path, "--fault", fault]);
        assert!(code == Some(4) && complaint.contains("is a fault of"), "{complaint}");
    }
}

#[actix_rt::test]
async fn a_fault_that_did_not_strike_in_time_is_taken_back() {
    let server = Node::new().with_drills().start().await;
    let (code, report, _) = drill(&server, &["pipelines/series/lane", "--within", "300ms", "--json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert!(code == Some(1) && report["point"].is_null(), "{report}");
    let observed = report["observed"].as_str().unwrap();
    assert!(observed.contains("nothing was injected") && observed.contains("record"), "{report}");
    assert_eq!(server.http.actor("pipelines/series/lane").await.unwrap()["armed_faults"], 0);
}

#[actix_rt::test]
async fn a_stall_of_an_actor_without_records_is_reported_when_it_is_over_and_says_that_nothing_flowed() {
    let server = Node::new().with_drills().start().await;
    for fault in ["stall", "slow"] {
        let (code, report, complaint) =
            drill(&server, &["pipelines/series/source", "--fault", fault, "--lasting", "700ms", "--json"]);
        let report: Value =
            serde_json::from_str(&report).unwrap_or_else(|error| panic!("{error}: {report}{complaint}"));
        assert_eq!(code, Some(0), "{report}");
        assert!(report["recovered_after_ms"].as_u64() >= Some(700), "{report}");
        assert!(report["observed"].as_str().unwrap().contains("it had nothing to do since"), "{report}");
        assert_eq!(report["records"]["passed"], 0, "{report}");
    }
}

#[actix_rt::test]
async fn a_drill_of_an_actor_that_is_held_or_down_says_so() {
    let server = Node::new().with_drills().start().await;
    let path = "pipelines/series/lane";
    let order = async |name: &str| server.http.post(&format!("/api/v1/supervision/{path}/{name}"), &Value::Null).await;
    assert_eq!(order("pause").await.0, 200);
    let (code, report, _) = drill(&server, &[path, "--fault", "stall", "--within", "300ms"]);
    assert!(code == Some(1) && report.contains("it is paused: resume it first"), "{report}");
    assert_eq!((order("resume").await.0, order("drain").await.0), (200, 200));
    wait::until("it is down", async || is(server.http.actor(path).await?["state"].clone(), &json!("stopped"))).await;
    let (code, _, complaint) = drill(&server, &[path, "--fault", "stall"]);
    assert!(
        code == Some(4) && complaint.contains("is stopped") && complaint.contains("restart it first"),
        "{complaint}"
    );
}

#[actix_rt::test]
async fn random_drills_are_the_same_for_the_same_seed() {
    let server = Node::new().with_simulators().with_drills().start().await;
    processes(&server, "pipelines/sensors/lane").await;
    let arguments =
        ["pipelines/sensors/lane", "--random", "4", "--seed", "5", "--every", "0s", "--lasting", "50ms", "--json"];
    let faults = || {
        let (code, reports, complaint) = drill(&server, &arguments);
        assert_eq!(code, Some(0), "{reports}{complaint}");
        let reports = reports.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        reports.map(|report| report["fault"].to_string()).collect::<Vec<_>>()
    };
    let first = faults();
    assert_eq!((first.len(), faults()), (4, first));
}

#[actix_rt::test]
async fn the_interface_tells_which_faults_there_are() {
    let server = Node::new().start().await;
    let answer = server.http.get("/api/v1/supervision").await;
    assert_eq!(answer["drills"], false);
    let names: Vec<&Value> = answer["faults"].as_array().unwrap().iter().map(|fault| &fault["fault"]).collect();
    let expected = ["panic", "error", "stall", "slow", "broker_drop", "corrupt_record"].map(|name| json!(name));
    assert_eq!(names, expected.iter().collect::<Vec<_>>());
}

#[actix_rt::test]
async fn a_full_pipeline_shows_who_waits_for_whom() {
    let server = Node::new().with_simulators().with_drills().set("simulators.sensors.speed", "200").start().await;
    processes(&server, "pipelines/sensors/lane").await;
    let slow = json!({ "fault": "slow", "times": 1000, "millis": 2000 });
    let (status, _) = server.http.post("/api/v1/supervision/pipelines/sensors/sink/inject", &slow).await;
    assert_eq!(status, 200);
    wait::until("the lane waits for the sink", async || {
        let lane = server.http.actor("pipelines/sensors/lane").await?;
        is(lane["waiting_on"]["actor"].as_str().unwrap_or_default(), &"pipelines/sensors/sink")
            .map(drop)
            .map_err(|error| format!("{error}: {lane}"))
    })
    .await;
    let lane = server.http.actor("pipelines/sensors/lane").await.unwrap();
    assert!(lane["step_us"]["count"].as_u64() > Some(0) && lane["queue_us"]["p99"].is_u64(), "{lane}");
    let p99 = r#"streamward_actor_step_seconds{actor="pipelines/sensors/lane",at="p99"}"#;
    assert!(server.http.metric(p99).await.unwrap() > 0.0);
}

/// What `promtool check metrics` asks of a page.
#[actix_rt::test]
async fn metrics_keep_prometheus_rules_of_names() {
    let server = Node::new().start().await;
    let page = server.http.try_text("/metrics").await.unwrap();
    let types: Vec<(&str, &str)> =
        page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    assert!(types.len() > 20, "{page}");
    for (name, kind) in types {
        assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
        assert!(name.starts_with("streamward_") && page.contains(&format!("# HELP {name} ")), "{name}");
    }
    assert!(!page.contains("quantile=\""), "this label belongs to summaries");
}
