//! The console in a headless browser: `tests/browser/console.mjs` against a running server with drills.
//!
//! `PLAYWRIGHT_CORE` and `AXE_CORE` name the folders of these two packages; `SCREENSHOTS`, if set, one for pictures.

use std::process::Command;

use crate::support::server::Node;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/console.mjs");

#[actix_rt::test]
async fn the_console_works_in_a_browser() {
    let server = Node::new().with_simulators().with_drills().start().await;
    let url = format!("http://{}", server.http.address());
    let output = Command::new("node").args([SCRIPT, &url]).output().unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    println!("{printed}");
    assert!(output.status.success(), "{printed}\n{}", String::from_utf8_lossy(&output.stderr));
}
