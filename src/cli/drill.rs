//! `streamward drill`: a fault on purpose, and a report of how the actor healed.

use std::{process::ExitCode, time::Duration};

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

use super::client::{Method, Server};
use crate::config::HumanDuration;

/// Time for the answer itself, beyond the time that the drill is watched.
const GRACE: Duration = Duration::from_secs(10);

/// What shall happen to the actor.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    Panic,
    Error,
    Stall,
}

/// Make an actor of a running server fail and see it heal.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  streamward drill pipelines/sensors/lane --fault panic\n  streamward drill pipelines/sensors/lane --fault stall --stall 1m\n\nThe server must run with drills.enabled. Ends with 1 if the actor has not recovered, or records were lost,\nduplicated or reordered."
)]
pub struct DrillArgs {
    #[command(flatten)]
    server: Server,
    /// Path of the actor in `streamward tree`.
    path: String,
    /// What shall happen.
    #[arg(long, value_enum, default_value = "panic")]
    fault: Kind,
    /// How often.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    times: u32,
    /// How long a stall lasts; beyond the actor's `stuck_after` it is replaced.
    #[arg(long, default_value = "1s", value_name = "DURATION")]
    stall: HumanDuration,
    /// How long the actor is watched.
    #[arg(long, default_value = "1m", value_name = "DURATION")]
    within: HumanDuration,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

pub fn drill(args: &DrillArgs) -> Result<ExitCode, String> {
    let (fault, millis) = match args.fault {
        Kind::Panic => ("panic", 0),
        Kind::Error => ("error", 0),
        Kind::Stall => ("stall", args.stall.as_millis()),
    };
    let within = Duration::from(args.within);
    let body = json!({ "fault": fault, "times": args.times, "millis": millis, "within_ms": args.within.as_millis() });
    let path = format!("/api/v1/supervision/{}/drill", args.path.trim_matches('/'));
    let asked = args.server.call_within(within + GRACE, (Method::POST, &path), Some(&body));
    let report = actix::System::new().block_on(asked)?;
    if args.json {
        super::say(format_args!("{report:#}\n"));
    } else {
        super::say(format_args!("{}", render(&report)));
    }
    Ok(if has_healed(&report) { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn has_healed(report: &Value) -> bool {
    let is_exact = |records: &Value| ["lost", "duplicated", "reordered"].iter().all(|key| records[key] == 0);
    report["recovered_after_ms"].is_u64() && (report["records"].is_null() || is_exact(&report["records"]))
}

fn render(report: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("–").to_owned();
    let after = |value: &Value| value.as_u64().map_or_else(|| "not in time".to_owned(), |ms| format!("{ms} ms"));
    let detected = match &report["exit"] {
        Value::Null => "no incarnation ended of it".to_owned(),
        exit => format!("{}, as {}", after(&report["detected_after_ms"]), text(&exit["reason"])),
    };
    let records = match &report["records"] {
        Value::Null => "the actor belongs to no pipeline".to_owned(),
        records => format!(
            "{} passed, {} lost, {} duplicated, {} reordered",
            records["passed"], records["lost"], records["duplicated"], records["reordered"]
        ),
    };
    let lines = [
        ("actor", text(&report["path"])),
        (
            "fault",
            format!(
                "{} × {}, at \"{}\"",
                text(&report["fault"]["fault"]),
                report["fault"]["times"],
                text(&report["point"])
            ),
        ),
        ("detected after", detected),
        ("recovered after", after(&report["recovered_after_ms"])),
        (
            "generation",
            format!("{} → {}, {}", report["generation_before"], report["generation"], text(&report["state"])),
        ),
        ("records", records),
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
            "exit": {"reason": "panic"}, "records": {"passed": 70, "lost": 0, "duplicated": 0, "reordered": 0},
        })
    }

    #[test]
    fn a_report_is_six_lines() {
        let text = render(&report());
        assert_eq!(text.lines().count(), 6);
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
}
