//! From raw records to effects: what a lane does with one batch, without the actor around it.

use std::{collections::HashMap, ops::Range, sync::Arc};

use bytestring::ByteString;
use parking_lot::Mutex;
use streamward_core::{
    batch::RawBatch,
    decode::{DecodeLimits, Decoder, Format, MAX_WRITER_SCHEMAS},
    encode::{self, JsonShape},
    output::{DeadLetter, ErrorClass, Output},
    partition::{DecodedInput, PartitionState, PipelinePlan, ProcessError},
    record::key_text,
    schema::StreamSchema,
};

use crate::{
    live::{LiveChannel, LiveFrame},
    poison::Poison,
};

/// Stands for a null key among the keys of frames, apart from the empty one.
const NO_KEY: &str = "\0";

/// The compiled pipeline and how its records are decoded.
pub struct Stage {
    pub spec: StageSpec,
    /// The first schemas that any incarnation has looked up.
    learned: Mutex<HashMap<u32, Arc<str>>>,
    /// Stands for a step with a bug.
    #[cfg(test)]
    pub trap: Option<Trap>,
}

/// What a step with a bug does.
#[cfg(test)]
pub type Trap = Arc<dyn Fn(&DecodedInput) + Send + Sync>;

/// What a [`Stage`] is made of.
pub struct StageSpec {
    pub schema: Arc<StreamSchema>,
    pub plan: Arc<PipelinePlan>,
    pub format: Format,
    pub limits: DecodeLimits,
    /// Column of the stream's key.
    pub key_column: usize,
    /// `type` of the stream's live frames.
    pub frame_kind: String,
}

impl Stage {
    /// A stage that has looked up no schema id yet.
    #[must_use]
    pub fn new(spec: StageSpec) -> Self {
        Self {
            spec,
            learned: Mutex::default(),
            #[cfg(test)]
            trap: None,
        }
    }

    /// A decoder that knows the schemas looked up so far.
    pub fn decoder(&self) -> Decoder {
        let mut decoder = Decoder::new(self.spec.schema.clone(), self.spec.limits).with_format(self.spec.format);
        for (id, schema) in self.learned.lock().iter() {
            learn(&mut decoder, *id, Some(schema));
        }
        decoder
    }

    /// Notes what the registry answered for an id.
    pub fn learn(&self, decoder: &mut Decoder, id: u32, schema: Option<Arc<str>>) {
        learn(decoder, id, schema.as_deref());
        if let Some(schema) = schema {
            let mut learned = self.learned.lock();
            if learned.len() < MAX_WRITER_SCHEMAS {
                learned.insert(id, schema);
            }
        }
    }

    /// Decodes records of a batch; those set aside become dead letters unread.
    pub fn decode(
        &self,
        decoder: &mut Decoder,
        batch: &RawBatch,
        positions: Range<i64>,
        poison: &[Poison],
    ) -> DecodedInput {
        if poison.is_empty() {
            return self.input(decoder, batch, (0..batch.len(), positions));
        }
        let mut healthy = RawBatch::with_capacity(batch.topic.clone(), batch.partition, batch.bytes());
        healthy.read_at_ms = batch.read_at_ms;
        let mut dead = Vec::new();
        for record in batch.iter() {
            if let Ok(at) = poison.binary_search_by_key(&record.offset(), |poison| poison.offset) {
                dead.push(poisoned(&record, &poison[at].reason));
                continue;
            }
            healthy.push(record.offset(), record.log_timestamp_ms(), record.key(), record.value());
            for (name, value) in record.headers() {
                healthy.push_header(name, value);
            }
        }
        let mut input = self.input(decoder, &healthy, (0..healthy.len(), positions));
        input.dead.extend(dead);
        input.dead.sort_by_key(|letter| letter.offset);
        input
    }

    /// Decodes the records at `range` (indexes, not offsets).
    pub fn decode_range(&self, decoder: &mut Decoder, batch: &RawBatch, range: Range<usize>) -> DecodedInput {
        let start = batch.get(range.start).offset();
        let end = batch.get(range.end - 1).offset() + 1;
        self.input(decoder, batch, (range, start..end))
    }

    fn input(
        &self,
        decoder: &mut Decoder,
        batch: &RawBatch,
        (range, positions): (Range<usize>, Range<i64>),
    ) -> DecodedInput {
        let decoded = decoder.decode(batch, range);
        let record = |index: &u32| batch.get(*index as usize);
        DecodedInput {
            offsets: decoded.rows.iter().map(|index| record(index).offset()).collect(),
            read_at_ms: batch.read_at_ms,
            log_timestamps: decoded.rows.iter().map(|index| record(index).log_timestamp_ms()).collect(),
            dead: decoded
                .rejected
                .iter()
                .map(|rejected| {
                    streamward_core::decode::dead_letter(
                        &record(&rejected.index),
                        rejected,
                        streamward_core::decode::STAGE,
                    )
                })
                .collect(),
            batch: decoded.batch,
            start: positions.start,
            end: positions.end,
        }
    }

    /// Runs the steps; outputs begin at `emit_from`, records below it feed the state only.
    ///
    /// # Errors
    /// If the state covers the batch already; it is then as before.
    pub fn run(
        &self,
        state: &mut PartitionState,
        input: &DecodedInput,
        emit_from: i64,
    ) -> Result<Output, ProcessError> {
        #[cfg(test)]
        self.trap.iter().for_each(|trap| trap(input));
        state.process(&self.spec.plan, input, emit_from)
    }
}

fn learn(decoder: &mut Decoder, id: u32, schema: Option<&str>) {
    match schema {
        // A schema that cannot be read counts as resolved: its records are rejected with that reason.
        Some(schema) => drop(decoder.add_writer_schema(id, schema)),
        None => decoder.add_missing(id),
    }
}

fn poisoned(record: &streamward_core::batch::RawRecord<'_>, reason: &str) -> DeadLetter {
    let rejected = streamward_core::decode::Rejected { index: 0, class: ErrorClass::Poison, reason: reason.to_owned() };
    streamward_core::decode::dead_letter(record, &rejected, "process")
}

/// Sends the rows of an output to whoever watches the stream, one frame per row.
pub fn publish(channel: &LiveChannel, stage: &Stage, (output, log): (&Output, i64), now_ms: i64) {
    let mut received_at = Vec::with_capacity(24);
    streamward_core::schema::instant::write(now_ms, &mut received_at);
    let mut head = b"{\"type\":\"".to_vec();
    head.extend_from_slice(stage.spec.frame_kind.as_bytes());
    head.extend_from_slice(b"\",\"data\":");
    let (rows, offsets) = output.shown();
    let column = rows.column(stage.spec.key_column);
    let keys: Vec<_> = (0..offsets.len()).map(|row| key_text(column.as_ref(), row)).collect();
    let frames = offsets.iter().zip(&keys).enumerate().map(|(row, (offset, key))| {
        let mut text = Vec::with_capacity(head.len() + 320);
        text.extend_from_slice(&head);
        encode::encode_json(rows, row, stage.spec.plan.schema(), JsonShape::Flat, &mut text);
        text.extend_from_slice(b",\"received_at\":\"");
        text.extend_from_slice(&received_at);
        text.extend_from_slice(b"\"}");
        LiveFrame { offset: *offset, key: key.as_deref().unwrap_or(NO_KEY), text: utf8(text) }
    });
    channel.publish((output.partition, log), frames);
}

fn utf8(text: Vec<u8>) -> ByteString {
    ByteString::try_from(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        lane::tests::plan_over,
        live::{LiveEvent, LiveHub, SubscriptionLimits},
    };

    #[test]
    fn a_slow_subscriber_gets_the_newest_frame_of_each_key_also_of_integers_and_null() {
        let schema = r#"{"type": "record", "name": "Order", "fields": [
            {"name": "id", "type": ["null", "long"], "default": null},
            {"name": "at", "type": {"type": "long", "logicalType": "timestamp-millis"}}]}"#;
        let schema = Arc::new(StreamSchema::parse(schema).unwrap());
        let plan = plan_over(&schema, Vec::new());
        let (format, limits) = Default::default();
        let stage =
            Stage::new(StageSpec { schema, plan, format, limits, key_column: 0, frame_kind: "order".to_owned() });
        let mut batch = RawBatch::with_capacity("orders".into(), 0, 1000);
        for (offset, id) in (0..).zip(["7", "null", "8", "7", "null", "8"]) {
            batch.push(offset, 9, None, Some(format!(r#"{{"id": {id}, "at": {offset}}}"#).as_bytes()));
        }
        let input = stage.decode(&mut stage.decoder(), &batch, 0..6, &[]);
        let mut state = PartitionState::new(&stage.spec.plan, "orders".into(), 0);
        let output = stage.run(&mut state, &input, 0).unwrap();
        let channel = LiveHub::default().channel("orders");
        let mut slow = channel.subscribe(SubscriptionLimits { queue: 4 });
        publish(&channel, &stage, (&output, 0), 0);
        let got = std::iter::from_fn(|| slow.try_recv());
        let places = got.filter_map(|event| match event {
            LiveEvent::Frame(text) => text.split("00.00").nth(1).map(|at| at[..1].to_owned()),
            _ => None,
        });
        assert_eq!(places.collect::<Vec<_>>(), ["3", "4", "5"]);
    }
}
