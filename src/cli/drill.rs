//! `streamward drill`: a fault on purpose, and a report of how the actor healed.

use std::{process::ExitCode, time::Duration};

use clap::{Args, ValueEnum};
use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng, seq::IndexedRandom as _};
use serde_json::{Value, json};

use super::client::{Method, Server};
use crate::{
    app::{can_stall, has_healed},
    config::HumanDuration,
};

/// Time for the answer itself, beyond the time that the drill is watched.
const GRACE: Duration = Duration::from_secs(10);
/// Supervisors and actors that no random drill is for: sessions come and go, and the HTTP server carries the report.
const SPARED: [&str; 2] = ["edge/sessions", "edge/http"];

/// What shall happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// The actor panics.
    Panic,
    /// The actor returns an error.
    Error,
    /// The actor keeps a message in hand; beyond its `stuck_after` it is replaced.
    Stall,
    /// Each step of the actor takes longer, as if what it writes to were slow.
    Slow,
    /// `platform/broker` closes all connections and takes none for a while.
    BrokerDrop,
    /// A record that cannot be decoded is written to the pipeline's topic.
    CorruptRecord,
}

impl Kind {
    fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().replace('-', "_"))
    }

    fn lasts(self) -> bool {
        matches!(self, Self::Stall | Self::Slow | Self::BrokerDrop)
    }
}

/// Make an actor of a running server fail and see it heal.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  streamward drill pipelines/sensors/lane --fault panic\n  streamward drill pipelines/sensors/sink --fault slow --times 20 --lasting 100ms\n  streamward drill platform/broker --fault broker-drop --lasting 3s\n  streamward drill pipelines/sensors --fault corrupt-record --seed 7\n  streamward drill --random 20 --seed 7\n\nThe server must run with drills.enabled. Ends with 1 if an actor has not recovered, or records were lost,\nduplicated or reordered."
)]
pub struct DrillArgs {
    #[command(flatten)]
    server: Server,
    /// Path of the actor in `streamward tree`; with --random, of the part to choose from.
    #[arg(required_unless_present = "random", default_value = "/", hide_default_value = true)]
    path: String,
    /// What shall happen.
    #[arg(long, value_enum, default_value = "panic", conflicts_with = "random")]
    fault: Kind,
    /// How often.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000), conflicts_with = "random")]
    times: u32,
    /// How long a stall, a delay or an outage lasts.
    #[arg(long, default_value = "1s", value_name = "DURATION", alias = "stall")]
    lasting: HumanDuration,
    /// Run this many drills one after the other, with actors and faults by chance.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    random: Option<u32>,
    /// Decides what chance brings, and what a corrupt record looks like.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Wait between two random drills.
    #[arg(long, default_value = "3s", value_name = "DURATION")]
    every: HumanDuration,
    /// How long an actor is watched.
    #[arg(long, default_value = "1m", value_name = "DURATION")]
    within: HumanDuration,
    /// Print the report as JSON; of random drills, one line each.
    #[arg(long)]
    json: bool,
}

pub fn drill(args: &DrillArgs) -> Result<ExitCode, String> {
    actix::System::new().block_on(async {
        match args.random {
            None => one(args).await,
            Some(count) => by_chance(args, count).await,
        }
    })
}

async fn one(args: &DrillArgs) -> Result<ExitCode, String> {
    let report = args.run(&args.path, args.fault, (args.times, args.seed)).await?;
    if args.json {
        super::say(format_args!("{report:#}\n"));
    } else {
        super::say(format_args!("{}", render(&report)));
    }
    Ok(if has_healed(&report) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn by_chance(args: &DrillArgs, count: u32) -> Result<ExitCode, String> {
    let tree = args.server.get("/api/v1/supervision/tree").await?;
    let mut actors = Vec::new();
    leaves(&tree, args.path.trim_matches('/'), &mut actors);
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    let mut failed = 0;
    for number in 1..=count {
        let (path, kind) = actors.choose(&mut rng).ok_or_else(|| format!("no actor is at or below {}", args.path))?;
        let fault = any_fault(kind, path, &mut rng);
        let report = args.run(path, fault, (1, rng.random())).await?;
        let healed = has_healed(&report);
        failed += u32::from(!healed);
        if args.json {
            super::say(format_args!("{report}\n"));
        } else {
            super::say(format_args!("{number:>4}  {}\n", line(&report, healed)));
        }
        if number < count {
            tokio::time::sleep(args.every.into()).await;
        }
    }
    if !args.json {
        super::say(format_args!("{} of {count} healed, seed {}\n", count - failed, args.seed));
    }
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Path and kind of each actor without any below it, at or below a path.
fn leaves(node: &Value, below: &str, found: &mut Vec<(String, String)>) {
    let path = node["path"].as_str().unwrap_or_default().trim_matches('/');
    let children = node["children"].as_array().map(Vec::as_slice).unwrap_or_default();
    children.iter().for_each(|child| leaves(child, below, found));
    let is_below =
        below.is_empty() || path == below || path.strip_prefix(below).is_some_and(|rest| rest.starts_with('/'));
    let is_spared = SPARED.iter().any(|spared| path.starts_with(spared));
    let kind = node["kind"].as_str().unwrap_or_default();
    if is_below && !is_spared && kind != "supervisor" {
        found.push((path.to_owned(), kind.to_owned()));
    }
}

fn any_fault(kind: &str, path: &str, rng: &mut ChaCha8Rng) -> Kind {
    let mut faults = vec![Kind::Panic, Kind::Error, Kind::Slow];
    if can_stall(kind) {
        faults.push(Kind::Stall);
    }
    if kind == "broker" {
        faults.push(Kind::BrokerDrop);
    }
    if path.starts_with("pipelines/") {
        faults.push(Kind::CorruptRecord);
    }
    faults[rng.random_range(0..faults.len())]
}

impl DrillArgs {
    async fn run(&self, path: &str, fault: Kind, (times, seed): (u32, u64)) -> Result<Value, String> {
        let millis = if fault.lasts() { self.lasting.as_millis() } else { 0 };
        let within = Duration::from(self.within);
        let body = json!({ "fault": fault.name(), "times": times, "millis": millis, "seed": seed,
                           "within_ms": self.within.as_millis() });
        let path = format!("/api/v1/supervision/{}/drill", path.trim_matches('/'));
        Ok(self.server.call_within(within + GRACE, (Method::POST, &path), Some(&body)).await?)
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or("–").to_owned()
}

fn after(value: &Value) -> String {
    value.as_u64().map_or_else(|| "not in time".to_owned(), |ms| format!("{ms} ms"))
}

fn detected(report: &Value) -> String {
    match (&report["exit"], &report["detected_after_ms"]) {
        (Value::Null, Value::Null) => "no incarnation ended of it".to_owned(),
        (Value::Null, _) => format!("{}, as a dead letter", after(&report["detected_after_ms"])),
        (exit, _) => format!("{}, as {}", after(&report["detected_after_ms"]), text(&exit["reason"])),
    }
}

fn records(report: &Value) -> String {
    match &report["records"] {
        Value::Null => "the actor belongs to no pipeline".to_owned(),
        records => format!(
            "{} passed, {} lost, {} duplicated, {} reordered",
            records["passed"], records["lost"], records["duplicated"], records["reordered"]
        ),
    }
}

/// A drill among others.
fn line(report: &Value, healed: bool) -> String {
    let word = if healed { "healed" } else { "NOT HEALED" };
    format!(
        "{:<28} {:<15} {word} after {:<12} {}",
        text(&report["path"]),
        text(&report["fault"]["fault"]),
        after(&report["recovered_after_ms"]),
        records(report)
    )
}

fn render(report: &Value) -> String {
    let fault = format!(
        "{} × {}, at \"{}\"",
        text(&report["fault"]["fault"]),
        report["fault"]["times"],
        text(&report["point"])
    );
    let generation = format!("{} → {}, {}", report["generation_before"], report["generation"], text(&report["state"]));
    let lines = [
        ("actor", text(&report["path"])),
        ("fault", fault),
        ("detected after", detected(report)),
        ("recovered after", after(&report["recovered_after_ms"])),
        ("generation", generation),
        ("records", records(report)),
        ("observed", text(&report["observed"])),
    ];
    lines.iter().map(|(name, value)| format!("{name:<16} {value}\n")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Value {
        json!({
            "path": "pipelines/sensors/lane", "fault": {"fault": "panic", "times": 1, "millis": 0}, "point": "work",
            "detected_after_ms": 1, "recovered_after_ms": 4, "generation_before": 1, "generation": 2, "state": "running",
            "exit": {"reason": "panic"}, "observed": "it works", "records": {"passed": 70, "lost": 0, "duplicated": 0, "reordered": 0},
        })
    }

    #[test]
    fn a_report_is_seven_lines() {
        let text = render(&report());
        assert_eq!(text.lines().count(), 7);
        assert!(text.contains("observed         it works"), "{text}");
        assert!(text.contains("detected after   1 ms, as panic"), "{text}");
        assert!(text.contains("70 passed, 0 lost, 0 duplicated, 0 reordered"), "{text}");
    }

    #[test]
    fn what_has_not_healed_is_a_failure() {
        assert!(has_healed(&report()));
        let mut late = report();
        late["recovered_after_ms"] = Value::Null;
        assert!(!has_healed(&late) && render(&late).contains("not in time"));
        let mut lossy = report();
        lossy["records"]["lost"] = json!(1);
        assert!(!has_healed(&lossy));
        let mut outside = report();
        outside["records"] = Value::Null;
        assert!(has_healed(&outside));
    }

    #[test]
    fn chance_spares_sessions_and_the_http_server() {
        let tree = json!({"path": "/", "kind": "supervisor", "children": [
            {"path": "edge", "kind": "supervisor", "children": [{"path": "edge/http", "kind": "http"},
                {"path": "edge/sessions", "kind": "supervisor", "children": [{"path": "edge/sessions/1", "kind": "session"}]}]},
            {"path": "ops/lag", "kind": "lag"}, {"path": "opsx", "kind": "x"},
        ]});
        let paths = |below: &str| {
            let mut found = Vec::new();
            leaves(&tree, below, &mut found);
            found.into_iter().map(|(path, _)| path).collect::<Vec<_>>()
        };
        assert_eq!(paths(""), ["ops/lag", "opsx"]);
        assert_eq!(paths("ops"), ["ops/lag"]);
    }

    #[test]
    fn names_of_faults_are_those_of_the_api() {
        let names: Vec<String> = Kind::value_variants().iter().map(|kind| kind.name()).collect();
        let known = streamward_core::ports::FaultKind::ALL.map(|(kind, ..)| serde_json::to_value(kind).unwrap());
        assert_eq!(names, known.map(|name| name.as_str().unwrap().to_owned()));
    }
}
