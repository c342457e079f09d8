//! Faults by chance in every role under load, for `STREAMWARD_SOAK_SECONDS` (60 by default).

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{number, server::Node};

/// Load in records a second: the binary of the test profile shares two cores with other suites.
const RATE: &str = "1000";
/// The outages that are over in seconds and that nobody has to mend.
const OUTAGES: &str = "poison_batch,refused_row";
/// Kinds of actors that must have been struck.
const ROLES: [&str; 15] = [
    "announcer",
    "broker",
    "upkeep",
    "follower",
    "http",
    "lag",
    "lane",
    "registration",
    "registry",
    "relay",
    "retention",
    "session",
    "sink",
    "source",
    "watch",
];

#[test]
fn nothing_is_lost_reordered_or_stored_twice_while_every_role_fails_and_heals() {
    let seconds: u64 = number("STREAMWARD_SOAK_SECONDS", 60);
    let (time, faults) = (seconds.to_string(), (seconds * 10 / 3).to_string());
    let arguments =
        ["--seconds", &time, "--faults", &faults, "--rate", RATE, "--neighbours", "1", "--seed", "7", "--json"];
    let arguments = [&arguments[..], &["--outages", OUTAGES]].concat();
    let node = Node::new();
    let output = node.command(&[&["bench", "supervision"][..], &arguments].concat()).output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {complaint}"));
    println!("{report:#}");
    assert_eq!(report["faults"]["not_healed"], serde_json::json!([]), "{complaint}");
    for wrong in
        ["records_lost", "records_duplicated", "records_reordered", "poison_missing", "dead_letters_unexpected"]
    {
        assert_eq!(report[wrong], 0, "{wrong}");
    }
    assert!(output.status.success(), "{complaint}");
    assert!(report["records_acknowledged"].as_u64() > Some(seconds * 500) && report["poison_sent"].as_u64() > Some(0));
    let struck: BTreeSet<&str> = report["faults"]["by_role"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(struck, BTreeSet::from(ROLES));
    let dead: Vec<u64> =
        report["outages"].as_array().unwrap().iter().map(|one| one["dead_letters"].as_u64().unwrap()).collect();
    assert!(matches!(dead[..], [1_000, refused] if refused >= 100), "{dead:?}");
    assert!(report["neighbours"]["crash_loop_restarts"].as_u64() > Some(0));
}
