//! `streamward drill`: a fault on purpose, and a report of how the actor healed.

use std::{pin::pin, time::Duration};

use clap::{Args, ValueEnum};
use rand::{RngExt as _, SeedableRng as _, rngs::ChaCha8Rng, seq::IndexedRandom as _};
use serde_json::{Value, json};

use super::{
    Exit, Failure,
    client::{Method, Server},
    interrupt::Interrupts,
};
use crate::{
    app::{can_stall, has_healed},
    config::HumanDuration,
};

/// Time for the answer itself, beyond the time that the drill is watched.
const GRACE: Duration = Duration::from_secs(10);
/// Time to recover after a stall that has ended.
const AFTER_STALL: Duration = Duration::from_secs(15);
/// How long a stall, a delay or an outage lasts unless somebody says otherwise.
const LASTING: Duration = Duration::from_secs(1);
/// Longest stall by default.
const LONGEST_STALL: Duration = Duration::from_secs(4 * 60);
/// A drill that has not reported by then says what it waits for.
const SILENT_FOR: Duration = Duration::from_secs(3);
/// A fault may arrive after it was taken back: that is done again until the drill reports.
const TRY_AGAIN: Duration = Duration::from_secs(2);
const TRIES: u32 = 5;
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
    /// How long a stall, a delay or an outage lasts: 1s; a stall of one actor longer than its stuck_after.
    #[arg(long, value_name = "DURATION", alias = "stall")]
    lasting: Option<HumanDuration>,
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

pub fn drill(args: &DrillArgs) -> Result<Exit, Failure> {
    actix::System::new().block_on(async {
        let mut interrupts = Interrupts::listen()?;
        match args.random {
            None => one(args, &mut interrupts).await,
            Some(count) => by_chance(args, count, &mut interrupts).await,
        }
    })
}

async fn one(args: &DrillArgs, interrupts: &mut Interrupts) -> Result<Exit, Failure> {
    let drill = Drill { path: &args.path, fault: args.fault, times: args.times, seed: args.seed };
    let Drilled { report, is_interrupted } = args.run(&drill, interrupts).await?;
    let Some(report) = report else { return Ok(Exit::Interrupted) };
    if args.json {
        super::say(format_args!("{report:#}\n"))?;
    } else {
        super::say(format_args!("{}", render(&report)))?;
    }
    Ok(if is_interrupted { Exit::Interrupted } else { Exit::of_check(has_healed(&report)) })
}

async fn by_chance(args: &DrillArgs, count: u32, interrupts: &mut Interrupts) -> Result<Exit, Failure> {
    let tree = args.server.get("/api/v1/supervision/tree").await?;
    let mut actors = Vec::new();
    leaves(&tree, args.path.trim_matches('/'), &mut actors);
    let mut rng = ChaCha8Rng::seed_from_u64(args.seed);
    let (mut done, mut healed) = (0, 0);
    let mut is_interrupted = false;
    while done < count && !is_interrupted {
        let none = || Failure::refused(format_args!("no actor is at or below {}", args.path));
        let (path, kind) = actors.choose(&mut rng).ok_or_else(none)?;
        let drill = Drill { path, fault: any_fault(kind, path, &mut rng), times: 1, seed: rng.random() };
        let drilled = args.run(&drill, interrupts).await?;
        is_interrupted = drilled.is_interrupted;
        let Some(report) = drilled.report else { break };
        done += 1;
        healed += u32::from(has_healed(&report));
        let said = match args.json {
            true => super::say(format_args!("{report}\n")),
            false => super::say(format_args!("{done:>4}  {}\n", line(&report, has_healed(&report)))),
        };
        said?.or_end()?;
        if done < count && !is_interrupted {
            is_interrupted = interrupts.unless(tokio::time::sleep(args.every.into())).await.is_none();
        }
    }
    if !args.json {
        let rest = if done < count { format!(" ({count} were asked for)") } else { String::new() };
        super::say(format_args!("{healed} of {done} healed{rest}, seed {}\n", args.seed))?;
    }
    Ok(if is_interrupted { Exit::Interrupted } else { Exit::of_check(healed == count) })
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

/// One fault at one actor.
struct Drill<'a> {
    path: &'a str,
    fault: Kind,
    times: u32,
    seed: u64,
}

/// How one drill went: no report where it is not known.
struct Drilled {
    report: Option<Value>,
    is_interrupted: bool,
}

impl DrillArgs {
    /// Runs a drill to its end. An interrupt takes the fault back, and the report tells what was observed by then.
    async fn run(&self, drill: &Drill<'_>, interrupts: &mut Interrupts) -> Result<Drilled, Failure> {
        let path = format!("/api/v1/supervision/{}", drill.path.trim_matches('/'));
        let lasting = self.lasting(drill).await?;
        let within = match self.lasting {
            Some(_) => self.within.into(),
            None => Duration::from(self.within).max(lasting + AFTER_STALL),
        };
        let body = json!({ "fault": drill.fault.name(), "times": drill.times, "millis": millis(lasting),
                           "seed": drill.seed, "within_ms": millis(within) });
        let command = format!("{path}/drill");
        let mut running = pin!(self.server.call_within(within + GRACE, (Method::POST, &command), Some(&body)));
        let mut reported = interrupts.unless(tokio::time::timeout(SILENT_FOR, &mut running)).await;
        if let Some(Err(_)) = reported {
            super::remark(format_args!("{}", self.waits_for(drill.path, within).await));
            reported = interrupts.unless(&mut running).await.map(Ok);
        }
        if let Some(Ok(report)) = reported {
            return Ok(Drilled { report: Some(report?), is_interrupted: false });
        }
        super::remark(format_args!("interrupted: the fault is taken back (interrupt again to leave at once)"));
        let taken_back = async {
            let command = format!("{path}/disarm");
            for _ in 0..TRIES {
                self.server.call(Method::POST, &command, None).await?;
                if let Ok(report) = tokio::time::timeout(TRY_AGAIN, &mut running).await {
                    return report;
                }
            }
            Ok(Value::Null)
        };
        let report = match interrupts.unless(taken_back).await {
            Some(Ok(Value::Null)) => {
                super::remark(format_args!(
                    "the fault of {} was taken back, and the server has not reported what became of it",
                    drill.path
                ));
                None
            }
            Some(Ok(report)) => Some(report),
            Some(Err(error)) => {
                let reason = Failure::from(error);
                super::remark(format_args!(
                    "the fault of {} may still strike, for at most {} s: it was not taken back: {reason}",
                    drill.path,
                    within.as_secs()
                ));
                None
            }
            None => None,
        };
        Ok(Drilled { report, is_interrupted: true })
    }

    /// What a drill waits for that has not reported soon, and the way out.
    async fn waits_for(&self, path: &str, within: Duration) -> String {
        let tree = self.server.get("/api/v1/supervision/tree").await.unwrap_or_default();
        let (path, seconds) = (path.trim_matches('/'), within.as_secs());
        let is_armed = node(&tree, path).is_some_and(|node| node["armed_faults"].as_u64().unwrap_or_default() > 0);
        match is_armed {
            true => format!(
                "{path} has nothing to do, and the fault strikes when it works next: write a record to its stream (POST \
                 /api/v1/streams/STREAM/records); interrupt to take the fault back, which is done after {seconds} s"
            ),
            false => format!(
                "the fault has struck, and {path} is watched until it works again, for at most {seconds} s; interrupt to \
                 end this before"
            ),
        }
    }

    /// How long the fault lasts: as asked for; else a stall lasts longer than the actor may keep a message in hand.
    async fn lasting(&self, drill: &Drill<'_>) -> Result<Duration, Failure> {
        if !drill.fault.lasts() {
            return Ok(Duration::ZERO);
        }
        match self.lasting {
            Some(lasting) => Ok(lasting.into()),
            None if drill.fault == Kind::Stall && self.random.is_none() => {
                let tree = self.server.get("/api/v1/supervision/tree").await?;
                Ok(stuck_after(&tree, drill.path.trim_matches('/')).map_or(LASTING, beyond))
            }
            None => Ok(LASTING),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// A stall that is noticed under this limit; a limit that is too long to wait for is left alone.
fn beyond(limit: Duration) -> Duration {
    let longer = limit + (limit / 4).max(LASTING);
    if longer <= LONGEST_STALL { longer } else { LASTING }
}

/// How long the actor may keep a message in hand; none where nothing watches it, or it is not there.
fn stuck_after(tree: &Value, path: &str) -> Option<Duration> {
    let limit = node(tree, path)?["policy"]["stuck_after"].as_str()?;
    limit.parse::<HumanDuration>().ok().map(Duration::from)
}

/// The node at a path of the tree.
fn node<'a>(tree: &'a Value, path: &str) -> Option<&'a Value> {
    if tree["path"].as_str().is_some_and(|found| found.trim_matches('/') == path) {
        return Some(tree);
    }
    tree["children"].as_array()?.iter().find_map(|child| node(child, path))
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
    fn a_stall_lasts_longer_than_its_actor_may_keep_a_message_in_hand() {
        let lane = json!({"path": "pipelines/a/lane", "policy": {"stuck_after": "30s"}});
        let unwatched = json!({"path": "ops/lag", "policy": {"stuck_after": null}});
        let tree = json!({"path": "/", "policy": {"stuck_after": "9s"}, "children": [lane, unwatched]});
        assert_eq!(stuck_after(&tree, "pipelines/a/lane"), Some(Duration::from_secs(30)));
        assert_eq!((stuck_after(&tree, "ops/lag"), stuck_after(&tree, "nobody")), (None, None));
        assert_eq!(beyond(Duration::from_secs(30)), Duration::from_millis(37_500));
        assert_eq!(beyond(Duration::from_millis(50)), Duration::from_millis(1_050));
        assert_eq!(beyond(Duration::from_secs(3_600)), LASTING, "nobody waits for an hour");
    }

    #[test]
    fn names_of_faults_are_those_of_the_api() {
        let names: Vec<String> = Kind::value_variants().iter().map(|kind| kind.name()).collect();
        let known = streamward_core::ports::FaultKind::ALL.map(|(kind, ..)| serde_json::to_value(kind).unwrap());
        assert_eq!(names, known.map(|name| name.as_str().unwrap().to_owned()));
    }
}
