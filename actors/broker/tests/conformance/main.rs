//! A driver of the conformance suite: cases through rdkafka, one JSON line for each. `tests/conformance/run.py` runs
//! it with the addresses of a broker; see the suite's README.
#![allow(clippy::unwrap_used, reason = "helpers of tests may panic as tests do")]

mod admin;
mod env;
mod groups;
mod records;
mod topics;
mod transactions;
mod worker;

use std::collections::HashMap;
use std::env::args;
use std::io::Write;
use std::panic;
use std::sync::mpsc::channel;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use env::Env;
use serde_json::json;

/// A case: what must hold is in `cases.toml` under its name.
type Case = (&'static str, fn(&Env));

/// Cases at a time.
const JOBS: usize = 4;
/// Longest time for one case.
const CASE_LIMIT: Duration = Duration::from_secs(120);

fn cases() -> Vec<Case> {
    [records::CASES, transactions::CASES, groups::CASES, admin::CASES, topics::CASES].concat()
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("standard output takes lines");
}

fn main() {
    let (mut at, mut chosen) = (HashMap::new(), Vec::new());
    let mut words = args().skip(1);
    while let Some(word) = words.next() {
        match word.as_str() {
            "--list" => cases().iter().for_each(|(name, _)| say(name)),
            "--versions" => say(&json!({ "librdkafka": rdkafka::util::get_rdkafka_version().1 }).to_string()),
            "--at" => {
                let pair = words.next().expect("--at NAME=ADDRESS");
                let (name, address) = pair.split_once('=').expect("--at NAME=ADDRESS");
                at.insert(name.to_owned(), address.to_owned());
            }
            _ => chosen.push(word),
        }
    }
    run_all(&at, chosen);
    // A case that never ended may hold threads of its client.
    std::process::exit(0);
}

fn run_all(at: &HashMap<String, String>, mut chosen: Vec<String>) {
    chosen.reverse();
    let waiting = Mutex::new(chosen);
    let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop();
    thread::scope(|scope| {
        for _ in 0..JOBS {
            scope.spawn(|| {
                while let Some(name) = next() {
                    say(&outcome(&name, at));
                }
            });
        }
    });
}

/// The line about one case.
fn outcome(name: &str, at: &HashMap<String, String>) -> String {
    let (_, run) = *cases().iter().find(|(known, _)| *known == name).expect("a case of the list");
    let env = Env::new(at["plain"].clone(), name);
    let (send, receive) = channel();
    let begun = Instant::now();
    let work = move || {
        let ended = panic::catch_unwind(panic::AssertUnwindSafe(|| run(&env)));
        let _ = send.send(ended.err().map(|reason| text_of(reason.as_ref())));
    };
    #[expect(clippy::disallowed_methods, reason = "the case has a limit and is given up with its thread")]
    thread::Builder::new().spawn(work).expect("a thread for the case");
    let failure = match receive.recv_timeout(CASE_LIMIT) {
        Ok(failure) => failure,
        Err(_) => Some(format!("no end within {CASE_LIMIT:?}")),
    };
    let seconds = begun.elapsed().as_millis() as f64 / 1000.0;
    json!({ "case": name, "ok": failure.is_none(), "seconds": seconds, "detail": failure.unwrap_or_default() })
        .to_string()
}

/// What a panic said.
fn text_of(reason: &(dyn std::any::Any + Send)) -> String {
    let owned = reason.downcast_ref::<String>().cloned();
    owned.or_else(|| reason.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}
