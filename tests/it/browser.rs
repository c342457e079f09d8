//! The console in a headless browser: the scripts of `tests/browser` against running servers.
//!
//! `PLAYWRIGHT_CORE` and `AXE_CORE` name the folders of these two packages; `SCREENSHOTS`, if set, one for pictures, and
//! `ONLY` which of a script's tests run.

use std::{fs, process::Command};

use crate::support::server::{Node, Server};

const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser");

/// A stream that no built-in configuration has.
const OWN_STREAM: &str = "streams:\n  facts: { schema: fact.avsc, key: who, event_time: at, partitions: 1 }\n\
     pipelines:\n  facts: { from: facts, steps: [] }\n";
const OWN_SCHEMA: &str = r#"{"type": "record", "name": "Fact", "fields": [
    {"name": "who", "type": "string"},
    {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#;

fn drive(script: &str, server: &Server) {
    let url = format!("http://{}", server.http.address());
    let output = Command::new("node").args([&format!("{SCRIPTS}/{script}"), &url]).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    eprintln!("{printed}");
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
}

#[actix_rt::test]
async fn the_console_works_in_a_browser() {
    let server = Node::new().with_simulators().with_drills().start().await;
    drive("console.mjs", &server);
}

#[actix_rt::test]
async fn the_console_shows_a_server_with_an_own_stream_alone() {
    let node = Node::new();
    fs::write(node.path("config.yaml"), OWN_STREAM).unwrap();
    fs::write(node.path("fact.avsc"), OWN_SCHEMA).unwrap();
    drive("own.mjs", &node.start().await);
}
