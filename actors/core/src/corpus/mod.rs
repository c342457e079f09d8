//! A seeded stream of good and bad records with an oracle: one bad in ten, over all kinds of faults that a producer, a
//! network or a disk can make.
//!
//! The same seed and schema always give the same records. Each says what must become of it: [`Expect::Good`] with the
//! row that must come out, or [`Expect::Bad`] with its class. Where a fault is random (bit flips), only those count
//! that serde_json or apache-avro refuse too.
//!
//! Start at [`corpus`]; the kinds are in `faults`.

mod faults;
mod prng;

pub use prng::SplitMix64;

use crate::{
    encode::{JsonShape, encode_avro, encode_json_scalars, push_frame},
    output::ErrorClass,
    schema::{Decimal, Field, Kind, Scalar, StreamSchema},
};
use faults::{FAULTS, Made};

/// Records in a group: exactly one of each group is bad.
const GROUP: usize = 10;

/// What the corpus needs to know of its surroundings.
#[derive(Debug, Clone, Copy)]
pub struct CorpusOptions {
    /// Registry id of the stream's own schema.
    pub schema_id: u32,
    /// An id that no registry knows.
    pub unknown_schema_id: u32,
    /// Limit that an oversized value exceeds, in bytes; without it there are none.
    pub max_record_bytes: Option<usize>,
}

/// One record and what must become of it.
#[derive(Debug, Clone, PartialEq)]
pub struct CorpusRecord {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    pub expect: Expect,
    /// Kind of the fault, or of the good record.
    pub fault: &'static str,
}

/// What must become of a record.
#[derive(Debug, Clone, PartialEq)]
pub enum Expect {
    /// A row with these values, in the order of the schema's fields.
    Good(Vec<Scalar>),
    /// A dead letter of this class.
    Bad(ErrorClass),
}

/// Generates `count` records for a stream, one in ten of them bad. The kinds of faults take turns.
#[must_use]
pub fn corpus(seed: u64, count: usize, schema: &StreamSchema, options: CorpusOptions) -> Vec<CorpusRecord> {
    let mut maker = Maker { random: SplitMix64::new(seed), schema, options };
    let mut records = Vec::with_capacity(count);
    let mut next_fault = 0;
    while records.len() < count {
        let bad_at = maker.random.below(GROUP);
        for place in 0..GROUP.min(count - records.len()) {
            let (made, fault) = if place == bad_at { maker.bad(&mut next_fault) } else { maker.good() };
            records.push(maker.record(made, fault));
        }
    }
    records
}

struct Maker<'s> {
    random: SplitMix64,
    schema: &'s StreamSchema,
    options: CorpusOptions,
}

impl Maker<'_> {
    fn record(&mut self, made: Made, fault: &'static str) -> CorpusRecord {
        let key = (self.random.below(8) > 0).then(|| format!("key-{}", self.random.below(100)).into_bytes());
        let mut headers = Vec::new();
        if self.random.below(4) == 0 {
            headers.push(("trace".to_owned(), Some(self.random.next().to_be_bytes().to_vec())));
            headers.push(("empty".to_owned(), None));
        }
        CorpusRecord { key, value: made.value, headers, expect: made.expect, fault }
    }

    /// The next kind of fault that the schema can have.
    fn bad(&mut self, next_fault: &mut usize) -> (Made, &'static str) {
        loop {
            let (name, make) = FAULTS[*next_fault % FAULTS.len()];
            *next_fault += 1;
            if let Some(made) = make(self) {
                return (made, name);
            }
        }
    }

    fn good(&mut self) -> (Made, &'static str) {
        let row = self.row();
        let (value, name) = match self.random.below(8) {
            0..4 => (self.avro(&row), "good: Avro"),
            4 => (self.pretty(&row), "good: JSON with blanks"),
            5 => (self.with_extra_field(&row), "good: JSON with an unknown field"),
            6 => (self.with_epoch_times(&row), "good: JSON with times in milliseconds"),
            _ => (self.json(&row), "good: JSON"),
        };
        (Made { value: Some(value), expect: Expect::Good(row) }, name)
    }

    fn row(&mut self) -> Vec<Scalar> {
        self.schema.fields.iter().map(|field| scalar(&mut self.random, field)).collect()
    }

    fn avro(&self, row: &[Scalar]) -> Vec<u8> {
        let mut value = Vec::new();
        push_frame(self.options.schema_id, &mut value);
        encode_avro(self.schema, row, &mut value).expect("the row was made for the schema");
        value
    }

    fn json(&self, row: &[Scalar]) -> Vec<u8> {
        let mut value = Vec::new();
        encode_json_scalars(row, self.schema, JsonShape::Nested, &mut value);
        value
    }

    fn tree(&self, row: &[Scalar]) -> serde_json::Value {
        serde_json::from_slice(&self.json(row)).expect("what was written as JSON is JSON")
    }

    fn pretty(&self, row: &[Scalar]) -> Vec<u8> {
        format!(" {:#}\n", self.tree(row)).into_bytes()
    }

    fn with_extra_field(&self, row: &[Scalar]) -> Vec<u8> {
        let mut tree = self.tree(row);
        tree["no_such_field"] = serde_json::json!({"a": [1, {"b": null}], "c": "\u{1F600}"});
        tree.to_string().into_bytes()
    }

    fn with_epoch_times(&self, row: &[Scalar]) -> Vec<u8> {
        let mut tree = self.tree(row);
        for (field, scalar) in self.schema.fields.iter().zip(row) {
            if let (Kind::Timestamp, Scalar::Integer(ms)) = (&field.kind, scalar) {
                *leaf_of(&mut tree, field) = serde_json::json!(ms);
            }
        }
        tree.to_string().into_bytes()
    }
}

/// The place of a field in a JSON object of its stream.
fn leaf_of<'t>(tree: &'t mut serde_json::Value, field: &Field) -> &'t mut serde_json::Value {
    field.path.iter().fold(tree, |node, name| &mut node[name.as_str()])
}

fn scalar(random: &mut SplitMix64, field: &Field) -> Scalar {
    const FIRST_MS: i64 = 1_767_225_600_000;
    if field.nullable && random.below(4) == 0 {
        return Scalar::Null;
    }
    match &field.kind {
        Kind::Boolean => Scalar::Boolean(random.below(2) == 0),
        Kind::Int => Scalar::Integer(random.between(-80, 100)),
        Kind::Long => Scalar::Integer(random.between(-(1 << 50), 1 << 50)),
        #[expect(clippy::cast_precision_loss, reason = "quarters of small integers are exact")]
        Kind::Float => Scalar::Number(random.between(-4000, 4000) as f64 / 4.0),
        #[expect(clippy::cast_precision_loss, reason = "hundredths of small integers are near enough")]
        Kind::Double => Scalar::Number(random.between(-9_999, 130_000) as f64 / 100.0),
        Kind::String => Scalar::Text(text(random)),
        Kind::Enum(symbols) => Scalar::Text(symbols[random.below(symbols.len())].clone()),
        Kind::Decimal { precision, scale } => {
            let unscaled = i128::from(random.between(-(1 << 50), 1 << 50)) % 10_i128.pow(u32::from(*precision).min(15));
            Scalar::Decimal(Decimal { unscaled, scale: *scale })
        }
        Kind::Timestamp => Scalar::Integer(FIRST_MS + random.between(0, 31_535_999_999)),
    }
}

fn text(random: &mut SplitMix64) -> String {
    const ODD: [&str; 5] = ["", "Zürich \"Nord\"", "a\\b\tc\n", "\u{1F321} 温度", "{\"not\":\"an object\"}"];
    match random.below(20) {
        0 => ODD[random.below(ODD.len())].to_owned(),
        _ => format!("sensor_{:03}", random.below(1000)),
    }
}
