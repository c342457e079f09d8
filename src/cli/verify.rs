//! `streamward verify`: recounts the log against the database.

use std::path::Path;

use clap::Args;

use super::{ConfigSource, Exit, Failure, table::counted};
use crate::{
    app::{self, command_settings},
    config::Exposure,
    verify::{Difference, Report, Subject, VerifyError},
};

/// Recount the log against the database and say exactly what differs.
#[derive(Debug, Args)]
#[command(
    long_about = "Reads every partition's log from the retention floor to the stored position and compares it with the \
                  stored rows, dead letters, filtered ranges and the places of dead letters that \
                  retention removed. Works beside a running server, and on the data folder \
                  of a stopped one. Beside a running server it also looks at whether partitions that have records to \
                  process move. Exit code 1 if anything differs or stands still, 2 if the \
                  database cannot be read, 3 if the log cannot.",
    after_help = "Example:\n  streamward verify --data-dir ./data --json"
)]
pub struct VerifyArgs {
    #[command(flatten)]
    source: ConfigSource,
    /// Kafka address of the running server; without it that of the configuration, as the first of its users where it has
    /// some.
    #[arg(long, env = "STREAMWARD_BOOTSTRAP", value_name = "HOST:PORT")]
    bootstrap: Option<String>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

pub fn verify(args: &VerifyArgs) -> Result<Exit, Failure> {
    let (loaded, plan) = args.source.compile(Exposure::Insecure)?;
    let config = &loaded.config;
    let database = config.database();
    database.is_there().map_err(|error| failure(VerifyError::Database(error), &config.node.data_dir))?;
    let offline = app::offline_broker(config, args.bootstrap.as_deref()).map_err(Failure::usage)?;
    let settings = match &offline {
        Some(broker) => broker.settings(config),
        None => command_settings(config, args.bootstrap.as_deref()).map_err(Failure::usage)?,
    };
    let damage = app::damage(config).map_err(Failure::usage)?;
    let places = plan.sink_places();
    let subject = Subject {
        database: &database,
        data_dir: &config.node.data_dir,
        kafka: &settings,
        sinks: &places,
        damage: &damage,
    };
    let verified = actix::System::new().block_on(crate::verify::verify(&subject));
    let at = |error| match error {
        VerifyError::Log(reason) => {
            VerifyError::Log(format!("{}: {reason}; --bootstrap names another address", settings.bootstrap))
        }
        VerifyError::Database(_) => error,
    };
    let report = verified.map_err(|error| failure(at(error), &config.node.data_dir))?;
    if args.json {
        super::say_line(format_args!("{}", serde_json::to_string_pretty(&report).map_err(Failure::usage)?))?;
    } else {
        super::say(format_args!("{}", text(&report)))?;
    }
    Ok(Exit::of_check(report.ok))
}

/// An error with what the server of the data folder says: it may know why nothing answers.
fn failure(error: VerifyError, data_dir: &Path) -> Failure {
    let findings = app::last_findings(data_dir).unwrap_or_default();
    let says = |finding: &app::Finding| format!("\n  the server says: {finding}");
    let failure = match error {
        VerifyError::Log(reason) => Failure::unreachable(reason),
        VerifyError::Database(reason) => Failure::usage(reason),
    };
    failure.worded(|reason| reason + &findings.iter().map(says).collect::<String>())
}

/// The report for people: a line for each partition and for each thing that is wrong, the sum last.
fn text(report: &Report) -> String {
    let mut text = String::new();
    for partition in &report.partitions {
        text += &format!(
            "{:<12} {:<20} {:>3}  offsets {}..{}: {} = {} stored + {} dead + {} filtered{}{}{}{}{}\n",
            partition.sink,
            partition.topic,
            partition.partition,
            partition.from,
            partition.to,
            counted(partition.records, "record"),
            partition.stored,
            partition.dead,
            partition.filtered,
            removed(partition.removed),
            if partition.in_gaps > 0 { format!(" + {} in declared gaps", partition.in_gaps) } else { String::new() },
            compacted(partition.compacted),
            if partition.damaged > 0 { format!(", {} lost to damage", partition.damaged) } else { String::new() },
            if partition.pending > 0 { format!(", {} not processed yet", partition.pending) } else { String::new() },
        );
        text += &difference("missing", &partition.missing);
        text += &difference("counted twice", &partition.twice);
        text += &difference("stored but not in the log", &partition.unknown);
    }
    for log in &report.earlier_logs {
        text += &format!(
            "{:<12} {:<20} {:>3}  log {} is gone: {} of it accounted for, nothing to compare with\n",
            log.sink,
            log.topic,
            log.partition,
            log.log,
            counted(log.accounted, "record")
        );
    }
    for finding in &report.standing_still {
        text += &format!("    stands still: {finding}\n");
    }
    text + &format!(
        "{}: {} = {} stored + {} dead + {} filtered{}{}, {} not processed yet\n",
        verdict(report),
        counted(report.records, "record"),
        report.stored,
        report.dead,
        report.filtered,
        removed(report.removed),
        compacted(report.compacted),
        report.pending
    )
}

fn verdict(report: &Report) -> &'static str {
    match (report.differs(), report.ok) {
        (true, _) => "DIFFERENT",
        (false, false) => "STANDS STILL",
        (false, true) => "exact",
    }
}

fn removed(count: u64) -> String {
    if count > 0 { format!(" + {} that retention removed", counted(count, "dead letter")) } else { String::new() }
}

fn compacted(count: u64) -> String {
    if count > 0 { format!(" − {count} compacted away") } else { String::new() }
}

fn difference(what: &str, difference: &Difference) -> String {
    if difference.count == 0 {
        return String::new();
    }
    let more = if difference.count > difference.offsets.len() as u64 { ", …" } else { "" };
    format!("    {} {what}: offsets {:?}{more}\n", difference.count, difference.offsets)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verify::PartitionReport;

    #[test]
    fn a_report_counts_one_record_as_one() {
        let partition =
            PartitionReport { sink: "a".to_owned(), to: 1, records: 1, dead: 1, ..PartitionReport::default() };
        let missing = Difference { count: 1, offsets: vec![0] };
        let other = PartitionReport { sink: "b".to_owned(), to: 2, records: 2, missing, ..PartitionReport::default() };
        let report =
            Report { ok: true, records: 1, removed: 1, partitions: vec![partition, other], ..Report::default() };
        let text = text(&report);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines[0].ends_with("offsets 0..1: 1 record = 0 stored + 1 dead + 0 filtered"), "{text}");
        assert!(lines[1].contains("2 records = ") && lines[2] == "    1 missing: offsets [0]", "{text}");
        assert!(
            lines[3].contains(": 1 record = ") && lines[3].contains(" + 1 dead letter that retention removed"),
            "{text}"
        );
    }
}
