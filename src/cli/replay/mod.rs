//! `streamward replay`: writes the records of a file into a stream, through Kafka.

mod sender;

use std::path::PathBuf;

use clap::Args;

use self::sender::{SendError, Sender};
use super::{ConfigSource, Exit, Failure, table::counted};
use crate::{
    adapters::kafka::{
        producer::{KafkaProducer, ProduceError},
        reach::reach_topic,
    },
    app::command_settings,
    config::Exposure,
    plan::StreamSetup,
    replay::{self, ColumnMapping, Ignored, Pacer, ReplayError, ReplayOptions, ShiftTo, Speed, TargetField},
};

/// Write the records of a file into a stream.
#[derive(Debug, Args)]
#[command(
    long_about = "Reads CSV (with a column mapping), JSON lines or Avro files and writes each record into a stream's \
                  topic, at the pace of its event times or faster.",
    after_help = "Example:\n  streamward replay examples/ambient_temperature.csv --speed max\n  \
                  streamward replay trips.csv --map series=city --map timestamp=at --map value=trips --shift-to now"
)]
pub struct ReplayArgs {
    /// File to read: .csv, .jsonl, .ndjson, .json or .avro.
    file: PathBuf,
    /// Stream to write to.
    #[arg(long, default_value = "series")]
    stream: String,
    /// Pace of the event times: 1x, 10x, 0.5x or max.
    #[arg(long, default_value = "1x")]
    speed: Speed,
    /// Move all event times, by the same distance: to `now`, so that the newest record has the time at which it is sent
    /// and none is ahead of the clock, or so that the first record has the given time.
    #[arg(long, value_name = "now|TIME")]
    shift_to: Option<ShiftTo>,
    /// Take a field of the stream from a column of another name; repeatable.
    #[arg(long = "map", value_name = "FIELD=COLUMN")]
    maps: Vec<String>,
    /// Give a field the same value in every record; repeatable.
    #[arg(long = "const", value_name = "FIELD=VALUE")]
    constants: Vec<String>,
    /// Column separator of a CSV file; guessed if not given.
    #[arg(long)]
    delimiter: Option<char>,
    /// Format of the file, where its name does not tell it: csv, jsonl, json or avro.
    #[arg(long)]
    format: Option<replay::Format>,
    /// Leave out records that cannot be read, and say how many, instead of stopping at the first.
    #[arg(long)]
    skip_bad: bool,
    /// Kafka address; without it that of the configuration, as the first of its users where it has some.
    #[arg(long, env = "STREAMWARD_BOOTSTRAP", value_name = "HOST:PORT")]
    bootstrap: Option<String>,
    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    source: ConfigSource,
}

/// Fields named in the summary for people.
const MAX_SAID: usize = 10;

pub fn replay(args: &ReplayArgs) -> Result<Exit, Failure> {
    let (loaded, plan) = args.source.compile(Exposure::Insecure)?;
    let stream = plan.stream(&args.stream).ok_or_else(|| {
        let names: Vec<&str> = plan.streams.iter().map(|stream| &*stream.name).collect();
        Failure::usage(format_args!("there is no stream {}; the configuration has {}", args.stream, names.join(", ")))
    })?;
    if let Some(reason) = stream.takes_no_json() {
        return Err(Failure::usage(reason));
    }
    let settings = command_settings(&loaded.config, args.bootstrap.as_deref()).map_err(Failure::usage)?;
    let producer = KafkaProducer::create(&settings, "streamward-replay").map_err(Failure::usage)?;
    let options = options(args, stream)?;
    let open = || replay::open(&args.file, &options).map_err(Failure::usage);
    let rehearsal = Pacer::needs_span(args.speed, args.shift_to).then(open).transpose()?;
    let records = open()?;
    reach_topic(&settings, &stream.topic).map_err(|error| {
        Failure::unreachable(format_args!("the broker {} cannot be reached: {error}", settings.bootstrap))
    })?;
    let done = actix::System::new().block_on(Sender::new(args, stream, &producer).run(rehearsal, records));
    let report = done.map_err(|error| match error {
        SendError::File { sent, error } => Failure::usage(stopped_at(args, sent, &error)),
        SendError::Broker { sent, error } => {
            let words = format!("the broker {}: after {sent} records: {error}", settings.bootstrap);
            match error {
                ProduceError::Refused(_) => Failure::refused(words),
                ProduceError::Unavailable(_) => Failure::unreachable(words),
            }
        }
        SendError::Signals(failure) => failure,
    })?;
    report.print(args)
}

/// Why a replay stopped in its file, and what of it is written already.
fn stopped_at(args: &ReplayArgs, sent: u64, error: &ReplayError) -> String {
    let written = match sent {
        0 => String::new(),
        1 => format!("; 1 record before it is in the topic of stream {} already", args.stream),
        sent => format!("; {} before it are in the topic of stream {} already", counted(sent, "record"), args.stream),
    };
    let way_out = if error.is_bad_record() && !args.skip_bad { " (--skip-bad leaves such records out)" } else { "" };
    format!("{error}{written}{way_out}")
}

fn options(args: &ReplayArgs, stream: &StreamSetup) -> Result<ReplayOptions, Failure> {
    let fields = TargetField::of_stream(&stream.schema);
    let mut options = ReplayOptions::new(fields, &stream.event_time);
    if &*stream.name == "series" {
        options = options.with_series_named_after(&args.file);
    }
    options.format = args.format;
    options.mapping = ColumnMapping::parse(&args.maps, &args.constants).map_err(Failure::usage)?;
    options.delimiter = match args.delimiter {
        Some(delimiter) => {
            let wide = |_| Failure::usage(format_args!("--delimiter: {delimiter:?} is no ASCII character"));
            Some(u8::try_from(delimiter).map_err(wide)?)
        }
        None => None,
    };
    Ok(options)
}

/// What became of a file's records.
#[derive(Debug, Default)]
struct Report {
    acknowledged: u64,
    skipped: u64,
    /// Whether somebody ended the replay before the end of the file.
    interrupted: bool,
    /// Fields of the file that no field of the stream takes.
    ignored: Ignored,
}

impl Report {
    fn print(&self, args: &ReplayArgs) -> Result<Exit, Failure> {
        let Self { acknowledged, skipped, interrupted, ignored } = self;
        if args.json {
            let report = serde_json::json!({
                "acknowledged": acknowledged, "skipped": skipped, "interrupted": interrupted, "ignored_fields": ignored.names()
            });
            super::say_line(format_args!("{report}"))?;
        } else {
            super::say_line(format_args!(
                "{} of {} {} in the topic of stream {}{}{}",
                counted(*acknowledged, "record"),
                args.file.display(),
                if *acknowledged == 1 { "is" } else { "are" },
                args.stream,
                if *skipped > 0 { format!(", {skipped} left out") } else { String::new() },
                if *interrupted { ": interrupted" } else { "" }
            ))?;
            if !ignored.names().is_empty() {
                super::say_line(format_args!(
                    "fields that the stream does not have were left out: {}",
                    listed(ignored)
                ))?;
            }
        }
        Ok(if *interrupted { Exit::Interrupted } else { Exit::Done })
    }
}

/// `site (in 3 records), unit (in 1 record)`.
fn listed(ignored: &Ignored) -> String {
    let one = |(name, records): (&String, &u64)| format!("{name} (in {})", counted(*records, "record"));
    let mut names: Vec<String> = ignored.names().iter().take(MAX_SAID).map(one).collect();
    if ignored.has_further() || ignored.names().len() > MAX_SAID {
        names.push("and others".to_owned());
    }
    names.join(", ")
}
