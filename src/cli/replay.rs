//! `streamward replay`: writes the records of a file into a stream, through Kafka.

use std::{borrow::Cow, path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use futures_util::{StreamExt, stream::FuturesUnordered};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use streamward_core::{
    batch::RawBatch,
    decode::{Decoder, Format},
    record::key_text,
};

use super::ConfigSource;
use crate::{
    adapters::kafka::producer::{KafkaProducer, Outgoing, Placed, ProduceError},
    app::command_settings,
    clock::now_ms,
    config::Exposure,
    plan::StreamSetup,
    replay::{self, ColumnMapping, Pacer, ReplayOptions, ShiftTo, Speed, TargetField},
};

/// Records that may wait for their acknowledgement at once.
const MAX_IN_FLIGHT: usize = 5_000;
/// Bad records named one by one; the rest is counted.
const MAX_NAMED: u64 = 10;

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
    /// Move all event times so that the first one is `now` or the given time.
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

pub fn replay(args: &ReplayArgs) -> Result<ExitCode, String> {
    let (loaded, plan) = args.source.compile(Exposure::Insecure)?;
    let stream = plan.stream(&args.stream).ok_or_else(|| {
        let names: Vec<&str> = plan.streams.iter().map(|stream| &*stream.name).collect();
        format!("there is no stream {}; the configuration has {}", args.stream, names.join(", "))
    })?;
    let settings = command_settings(&loaded.config, args.bootstrap.as_deref()).map_err(|error| error.to_string())?;
    let producer = KafkaProducer::create(&settings, "streamward-replay").map_err(|error| error.to_string())?;
    let records = replay::open(&args.file, &options(args, stream)?).map_err(|error| error.to_string())?;
    let done = actix::System::new().block_on(Sender::new(args, stream, &producer).run(records));
    done.map(|report| report.print(args))
}

fn options(args: &ReplayArgs, stream: &StreamSetup) -> Result<ReplayOptions, String> {
    let fields = TargetField::of_avro_schema(&stream.schema.avro).map_err(|error| error.to_string())?;
    let mut options = ReplayOptions::new(fields, &stream.event_time);
    if &*stream.name == "series" {
        options = options.with_series_named_after(&args.file);
    }
    options.format = args.format;
    options.mapping = ColumnMapping::parse(&args.maps, &args.constants).map_err(|error| error.to_string())?;
    options.delimiter = match args.delimiter {
        Some(delimiter) => Some(u8::try_from(delimiter).map_err(|_| format!("{delimiter:?} is no ASCII character"))?),
        None => None,
    };
    Ok(options)
}

struct Sender<'a> {
    args: &'a ReplayArgs,
    stream: &'a StreamSetup,
    producer: &'a KafkaProducer,
    report: Report,
}

#[derive(Default)]
struct Report {
    acknowledged: u64,
    skipped: u64,
}

impl Report {
    fn print(&self, args: &ReplayArgs) -> ExitCode {
        let Self { acknowledged, skipped } = self;
        if args.json {
            super::say_line(format_args!(
                "{}",
                serde_json::json!({ "acknowledged": acknowledged, "skipped": skipped })
            ));
        } else {
            let skipped = if *skipped > 0 { format!(", {skipped} left out") } else { String::new() };
            super::say_line(format_args!(
                "{acknowledged} records of {} are in stream {}{skipped}",
                args.file.display(),
                args.stream
            ));
        }
        ExitCode::SUCCESS
    }

    fn count(&mut self, sent: Result<Placed, ProduceError>) -> Result<(), String> {
        sent.map_err(|error| format!("after {} records: {error}", self.acknowledged))?;
        self.acknowledged += 1;
        Ok(())
    }
}

impl<'a> Sender<'a> {
    fn new(args: &'a ReplayArgs, stream: &'a StreamSetup, producer: &'a KafkaProducer) -> Self {
        Self { args, stream, producer, report: Report::default() }
    }

    async fn run(mut self, mut records: replay::Replay) -> Result<Report, String> {
        let bar = progress(records.total_bytes());
        // Distances between records are kept by the monotonic clock.
        let (started, start_ms) = (tokio::time::Instant::now(), now_ms());
        let mut pacer = Pacer::new(self.args.speed, self.args.shift_to, start_ms);
        let (mut in_flight, mut keys) = (FuturesUnordered::new(), Keys::of(self.stream));
        while let Some(record) = records.next() {
            bar.set_position(records.bytes_read());
            let mut record = match record {
                Ok(record) => record,
                Err(error) if self.args.skip_bad && error.is_bad_record() => {
                    self.report.skipped += 1;
                    if self.report.skipped <= MAX_NAMED {
                        bar.println(error.to_string());
                    }
                    continue;
                }
                Err(error) => return Err(format!("{error} (--skip-bad leaves such records out)")),
            };
            let paced = pacer.pace(record.event_time_ms);
            if self.args.shift_to.is_some() {
                record.set_event_time(paced.event_time_ms);
            }
            let since_start_ms = u64::try_from(paced.due_wall_ms - start_ms).unwrap_or(0);
            tokio::time::sleep_until(started + Duration::from_millis(since_start_ms)).await;
            let (producer, topic) = (self.producer, &*self.stream.topic);
            let value = Value::Object(record.json).to_string();
            let key = keys.of_record(&value);
            in_flight.push(async move {
                let headers = Vec::new();
                let record = Outgoing {
                    topic,
                    partition: None,
                    key: key.as_deref().map(str::as_bytes),
                    value: Some(value.as_bytes()),
                    headers,
                };
                producer.send(record).await
            });
            while in_flight.len() >= MAX_IN_FLIGHT {
                if let Some(sent) = in_flight.next().await {
                    self.report.count(sent)?;
                }
            }
        }
        while let Some(sent) = in_flight.next().await {
            self.report.count(sent)?;
        }
        bar.finish_and_clear();
        Ok(self.report)
    }
}

/// The stream's key of records, as whoever reads them sees it.
struct Keys {
    decoder: Decoder,
    column: usize,
}

impl Keys {
    fn of(stream: &StreamSetup) -> Self {
        let decoder = Decoder::new(stream.schema.clone(), stream.limits).with_format(Format::Json);
        Self { decoder, column: stream.table.key }
    }

    /// The key of a record; none where it is null, and where the record cannot be read.
    fn of_record(&mut self, json: &str) -> Option<String> {
        let mut batch = RawBatch::with_capacity("".into(), 0, json.len());
        batch.push(0, 0, None, Some(json.as_bytes()));
        let decoded = self.decoder.decode(&batch, 0..1);
        let column = decoded.batch.column(self.column);
        (decoded.batch.num_rows() == 1).then(|| key_text(column.as_ref(), 0).map(Cow::into_owned)).flatten()
    }
}

fn progress(total_bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes}  {elapsed}, {eta} left");
    ProgressBar::new(total_bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_record_is_that_which_the_stream_reads() {
        let plan = crate::plan::load(&crate::config::Sources::default()).unwrap().1;
        let stream = plan.stream("series").unwrap();
        let nested = plan.stream("sensors").unwrap();
        let battery = nested.schema.column_index("battery_level").unwrap();
        let reading = r#"{"sensor_id": "s", "sensor_type": "humidity", "value": 1, "timestamp": 1740834000000,
            "location": "hall", "anomaly": false, "metadata": {"battery_level": 9, "signal_strength": -9}}"#;
        assert_eq!(Keys::of(nested).of_record(reading).as_deref(), Some("s"));
        let mut keys = Keys { column: battery, ..Keys::of(nested) };
        assert_eq!(keys.of_record(reading).as_deref(), Some("9"), "a nested number");
        assert_eq!(Keys::of(stream).of_record(reading), None, "no record of this stream");
    }
}
