//! Sends records when they are due, and lets go of them when they are acknowledged.

use std::{borrow::Cow, time::Duration};

use futures_util::{FutureExt as _, StreamExt as _, future::LocalBoxFuture, stream::FuturesUnordered};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use streamward_core::{
    batch::RawBatch,
    decode::{Decoder, Format},
    record::key_text,
};
use tokio::time::Instant;

use super::{ReplayArgs, Report, counted};
use crate::{
    adapters::kafka::producer::{KafkaProducer, Outgoing, Placed, ProduceError},
    cli::{Failure, interrupt::Interrupts},
    clock::now_ms,
    plan::StreamSetup,
    replay::{Pacer, Replay, ReplayError, ReplayRecord},
};

/// Records that may wait for their acknowledgement at once.
const MAX_IN_FLIGHT: usize = 5_000;
/// Records that are read in one go before anybody is heard.
const RECORDS_AT_ONCE: u32 = 1_000;
/// Bad records named one by one; the rest is counted.
const MAX_NAMED: u64 = 10;
/// How often the progress bar says something new.
const SHOW_EVERY: Duration = Duration::from_millis(100);

/// Sends the records of one file.
pub(super) struct Sender<'a> {
    args: &'a ReplayArgs,
    stream: &'a StreamSetup,
    producer: &'a KafkaProducer,
    keys: Keys,
    in_flight: FuturesUnordered<LocalBoxFuture<'a, Result<Placed, ProduceError>>>,
    report: Report,
    bar: ProgressBar,
    show_at: Instant,
}

/// Why a replay did not come to its end.
#[derive(Debug)]
pub(super) enum SendError {
    /// A record that cannot be read, behind so many acknowledged ones.
    File {
        sent: u64,
        error: ReplayError,
    },
    /// After so many acknowledged records.
    Broker {
        sent: u64,
        error: ProduceError,
    },
    Signals(Failure),
}

/// What ends a wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Woken {
    Due,
    Interrupted,
}

impl<'a> Sender<'a> {
    pub(super) fn new(args: &'a ReplayArgs, stream: &'a StreamSetup, producer: &'a KafkaProducer) -> Self {
        Self {
            args,
            stream,
            producer,
            keys: Keys::of(stream),
            in_flight: FuturesUnordered::new(),
            report: Report::default(),
            bar: ProgressBar::hidden(),
            show_at: Instant::now(),
        }
    }

    /// Sends until the file ends or somebody interrupts, then waits for what was sent. A second interrupt ends that wait.
    ///
    /// `rehearsal` reads the same file before it, for a pacer that has to know its span; a record that would stop the
    /// replay stops it there, before anything is sent.
    pub(super) async fn run(mut self, rehearsal: Option<Replay>, mut records: Replay) -> Result<Report, SendError> {
        self.bar = progress(records.total_bytes());
        let mut interrupts = Interrupts::listen().map_err(SendError::Signals)?;
        let span_ms = match rehearsal {
            Some(records) => self.span_ms(records, &mut interrupts).await?,
            None => Some(0),
        };
        self.report.interrupted = match span_ms {
            Some(span_ms) => match self.send_all(&mut records, span_ms, &mut interrupts).await {
                Err(SendError::File { error, .. }) => {
                    self.settle(&mut interrupts).await?;
                    return Err(SendError::File { sent: self.report.acknowledged, error });
                }
                sent => sent? == Woken::Interrupted,
            },
            None => true,
        };
        self.report.ignored = records.ignored().clone();
        if self.report.interrupted {
            self.bar.println("interrupted: waiting for what was sent (interrupt again to leave at once)");
        }
        self.report.interrupted |= self.settle(&mut interrupts).await? == Woken::Interrupted;
        self.bar.finish_and_clear();
        Ok(self.report)
    }

    /// How much newer than the first record the newest one is, in event time; none if somebody interrupts.
    async fn span_ms(&mut self, mut records: Replay, interrupts: &mut Interrupts) -> Result<Option<i64>, SendError> {
        let mut times: Option<(i64, i64)> = None;
        let mut until_pause = RECORDS_AT_ONCE;
        while let Some(judged) = self.keys.next_of(&mut records) {
            let time_ms = match judged {
                Ok((record, _)) => record.event_time_ms,
                Err(error) if self.leaves_out(&error) => continue,
                Err(error) => return Err(SendError::File { sent: 0, error }),
            };
            let (_, newest) = times.get_or_insert((time_ms, time_ms));
            *newest = (*newest).max(time_ms);
            until_pause -= 1;
            if until_pause == 0 {
                until_pause = RECORDS_AT_ONCE;
                if interrupts.unless(tokio::task::yield_now()).await.is_none() {
                    return Ok(None);
                }
            }
        }
        Ok(Some(times.map_or(0, |(first, newest)| newest.saturating_sub(first))))
    }

    async fn send_all(
        &mut self,
        records: &mut Replay,
        span_ms: i64,
        interrupts: &mut Interrupts,
    ) -> Result<Woken, SendError> {
        // Distances between records are kept by the monotonic clock.
        let (started, start_ms) = (Instant::now(), now_ms());
        let mut pacer = Pacer::new(self.args.speed, self.args.shift_to, start_ms).with_span(span_ms);
        while let Some(judged) = self.keys.next_of(records) {
            let Some((mut record, key)) = self.good(judged)? else { continue };
            let paced = pacer.pace(record.event_time_ms);
            if self.args.shift_to.is_some() {
                record.set_event_time(paced.event_time_ms);
            }
            self.show(records.bytes_read(), record.event_time_ms);
            let since_start_ms = u64::try_from(paced.due_wall_ms - start_ms).unwrap_or(0);
            let due = started + Duration::from_millis(since_start_ms);
            if self.wait(due, interrupts).await? == Woken::Interrupted {
                return Ok(Woken::Interrupted);
            }
            self.send(record, key);
        }
        Ok(Woken::Due)
    }

    /// A record that could be read and that the stream takes; none where it is left out.
    fn good<T>(&mut self, record: Result<T, ReplayError>) -> Result<Option<T>, SendError> {
        match record {
            Ok(record) => Ok(Some(record)),
            Err(error) if self.leaves_out(&error) => {
                self.report.skipped += 1;
                if self.report.skipped <= MAX_NAMED {
                    self.bar.println(error.to_string());
                }
                Ok(None)
            }
            Err(error) => Err(SendError::File { sent: 0, error }),
        }
    }

    fn leaves_out(&self, error: &ReplayError) -> bool {
        self.args.skip_bad && error.is_bad_record()
    }

    fn send(&mut self, record: ReplayRecord, key: Option<String>) {
        let (producer, topic) = (self.producer, &*self.stream.topic);
        let value = Value::Object(record.json).to_string();
        let sent = async move {
            let (key, value) = (key.as_deref().map(str::as_bytes), Some(value.as_bytes()));
            producer.send(Outgoing { topic, partition: None, key, value, headers: Vec::new() }).await
        };
        self.in_flight.push(sent.boxed_local());
    }

    /// Takes acknowledgements until `due`, and for longer while too many are missing.
    async fn wait(&mut self, due: Instant, interrupts: &mut Interrupts) -> Result<Woken, SendError> {
        loop {
            let is_full = self.in_flight.len() >= MAX_IN_FLIGHT;
            tokio::select! {
                biased;
                () = interrupts.next() => return Ok(Woken::Interrupted),
                Some(sent) = self.in_flight.next() => self.report.count(sent)?,
                () = tokio::time::sleep_until(due), if !is_full => return Ok(Woken::Due),
            }
        }
    }

    /// Takes the acknowledgements of all that was sent.
    async fn settle(&mut self, interrupts: &mut Interrupts) -> Result<Woken, SendError> {
        loop {
            tokio::select! {
                biased;
                () = interrupts.next() => return Ok(Woken::Interrupted),
                sent = self.in_flight.next() => match sent {
                    Some(sent) => self.report.count(sent)?,
                    None => return Ok(Woken::Due),
                },
            }
        }
    }

    fn show(&mut self, bytes: u64, event_time_ms: i64) {
        let now = Instant::now();
        if now >= self.show_at {
            self.show_at = now + SHOW_EVERY;
            self.bar.set_position(bytes);
            let sent = self.report.acknowledged + self.in_flight.len() as u64;
            self.bar.set_message(progress_text(sent, event_time_ms));
        }
    }
}

impl Report {
    fn count(&mut self, sent: Result<Placed, ProduceError>) -> Result<(), SendError> {
        sent.map_err(|error| SendError::Broker { sent: self.acknowledged, error })?;
        self.acknowledged += 1;
        Ok(())
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

    /// The next record of a file with its key, or why it cannot be read or is not taken.
    fn next_of(&mut self, records: &mut Replay) -> Option<Result<(ReplayRecord, Option<String>), ReplayError>> {
        let record = records.next()?;
        Some(record.and_then(|record| match self.of_record(&record) {
            Ok(key) => Ok((record, key)),
            Err(reason) => Err(records.refuse(&record, reason)),
        }))
    }

    /// The key of a record; none where it is null.
    ///
    /// # Errors
    /// Why the stream does not take the record.
    fn of_record(&mut self, record: &ReplayRecord) -> Result<Option<String>, String> {
        self.of_json(&serde_json::to_string(&record.json).map_err(|error| error.to_string())?)
    }

    fn of_json(&mut self, json: &str) -> Result<Option<String>, String> {
        let mut batch = RawBatch::with_capacity("".into(), 0, json.len());
        batch.push(0, 0, None, Some(json.as_bytes()));
        let mut decoded = self.decoder.decode(&batch, 0..1);
        match decoded.rejected.pop() {
            Some(rejected) => Err(rejected.reason),
            None => Ok(key_text(decoded.batch.column(self.column).as_ref(), 0).map(Cow::into_owned)),
        }
    }
}

/// What the progress bar says: how many records, and where in event time.
fn progress_text(sent: u64, event_time_ms: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(event_time_ms).map_or_else(|_| String::new(), |at| format!(", at {at}"));
    format!("{}{at}", counted(sent, "record"))
}

fn progress(total_bytes: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{wide_bar} {bytes}/{total_bytes}  {msg}, {elapsed}");
    ProgressBar::new(total_bytes).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_in_records_and_event_time() {
        assert_eq!(progress_text(1, 1_387_843_200_000), "1 record, at 2013-12-24T00:00:00Z");
        assert_eq!(progress_text(7_267, 1_387_843_200_500), "7267 records, at 2013-12-24T00:00:00.5Z");
        assert_eq!(progress_text(0, i64::MAX), "0 records", "a time beyond the calendar");
    }

    #[test]
    fn the_key_of_a_record_is_that_which_the_stream_reads() {
        let plan = crate::plan::load(&crate::config::Sources::default()).unwrap().1;
        let stream = plan.stream("series").unwrap();
        let nested = plan.stream("sensors").unwrap();
        let battery = nested.schema.column_index("battery_level").unwrap();
        let reading = r#"{"sensor_id": "s", "sensor_type": "humidity", "value": 1, "timestamp": 1740834000000,
            "location": "hall", "anomaly": false, "metadata": {"battery_level": 9, "signal_strength": -9}}"#;
        assert_eq!(Keys::of(nested).of_json(reading), Ok(Some("s".to_owned())));
        let mut keys = Keys { column: battery, ..Keys::of(nested) };
        assert_eq!(keys.of_json(reading), Ok(Some("9".to_owned())), "a nested number");
        let refused = Keys::of(stream).of_json(reading).unwrap_err();
        assert!(refused.contains("series"), "no record of this stream: {refused}");
    }
}
