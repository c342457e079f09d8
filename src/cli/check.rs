//! `streamward check` and `streamward config`.

use clap::Args;

use super::{ConfigSource, Exit, Failure};
use crate::{
    config::{Config, Exposure},
    plan,
};

/// Check the configuration and report every fault at once.
#[derive(Debug, Args)]
#[command(
    long_about = "Reads the configuration, its schemas and its expressions and reports every fault at once. Where the data \
                  folder has a database, also compares what its rows mean with what the configuration says, as a start \
                  does.",
    after_help = "Example:\n  streamward check --config config.yaml --json"
)]
pub struct CheckArgs {
    #[command(flatten)]
    source: ConfigSource,
    /// Take a change of what stored rows mean for granted that is refused otherwise, such as window/NAME.
    #[arg(long, value_name = "CHANGE")]
    allow: Vec<String>,
    /// Allow listening on other addresses than loopback without authentication.
    #[arg(long)]
    insecure: bool,
    /// Print the faults as JSON.
    #[arg(long)]
    json: bool,
}

/// Print the merged configuration or its JSON Schema.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  streamward config --effective --set http.listen=127.0.0.1:0")]
pub struct ConfigArgs {
    #[command(flatten)]
    source: ConfigSource,
    /// The configuration after file, environment and --set, with secrets hidden (the default).
    #[arg(long, conflicts_with = "schema")]
    effective: bool,
    /// The JSON Schema of the configuration file, for editors.
    #[arg(long)]
    schema: bool,
}

pub fn check(args: &CheckArgs) -> Result<Exit, Failure> {
    let faults = match plan::load_for_start(&args.source.sources(exposure(args.insecure)), &args.allow, false) {
        Ok((_, plan)) => return report_ok(args.json, &[plan.warnings(), plan.as_last_read].concat()),
        Err(faults) => faults,
    };
    if args.json {
        super::say_line(format_args!(
            "{}",
            serde_json::json!({ "ok": false, "faults": faults.named, "unnamed": faults.unnamed })
        ))?;
    } else {
        super::remark(format_args!("{faults}"));
    }
    Ok(Exit::Usage)
}

/// What `--insecure` allows.
pub fn exposure(insecure: bool) -> Exposure {
    if insecure { Exposure::Insecure } else { Exposure::Guarded }
}

fn report_ok(json: bool, warnings: &[String]) -> Result<Exit, Failure> {
    if json {
        super::say_line(format_args!("{}", serde_json::json!({ "ok": true, "faults": [], "warnings": warnings })))?;
    } else {
        for warning in warnings {
            super::remark(format_args!("warning: {warning}"));
        }
        super::say_line(format_args!("the configuration is fine"))?;
    }
    Ok(Exit::Done)
}

pub fn config(args: &ConfigArgs) -> Result<Exit, Failure> {
    if args.schema {
        super::say_line(format_args!("{}", Config::schema_json()))?;
        return Ok(Exit::Done);
    }
    let loaded = Config::load(&args.source.sources(Exposure::Insecure)).map_err(Failure::usage)?;
    super::say(format_args!("{}", loaded.config.effective_yaml()))?;
    Ok(Exit::Done)
}
