//! Random writer and reader schemas, random data: apache-avro's resolution is the oracle.

use apache_avro::{Schema, reader::datum::GenericDatumReader, types::Value, writer::datum::GenericDatumWriter};
use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::*;
use crate::{
    corpus::SplitMix64,
    schema::{Kind, Node, RecordNode, instant::is_in_range},
};

struct Generator {
    random: SplitMix64,
    names: usize,
}

/// A reader field and the writer's form of it, if the writer has it.
struct Pair {
    reader: Json,
    writer: Option<Json>,
}

impl Generator {
    fn new(seed: u64) -> Self {
        Self { random: SplitMix64::new(seed), names: 0 }
    }

    fn chance(&mut self, in_: usize) -> bool {
        self.random.below(in_) == 0
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.random.below(items.len())]
    }

    fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (1..items.len()).rev() {
            items.swap(end, self.random.below(end + 1));
        }
    }

    /// The two schemas of a record: what the stream wants and what a producer of another version writes.
    fn records(&mut self, depth: usize) -> (Json, Json) {
        let name = self.name("Rec");
        let (mut reader, mut writer) = (Vec::new(), Vec::new());
        for _ in 0..=self.random.below(5) {
            let pair = self.field(depth);
            reader.push(pair.reader);
            writer.extend(pair.writer);
        }
        for _ in 0..self.random.below(3) {
            let extra = self.any_type(0);
            writer.push(json!({"name": self.name("extra"), "type": extra}));
        }
        self.shuffle(&mut writer);
        let record = |fields: Vec<Json>| json!({"type": "record", "name": name, "fields": fields});
        (record(reader), record(writer))
    }

    fn field(&mut self, depth: usize) -> Pair {
        let name = self.name("f");
        if depth < 3 && self.chance(5) {
            let (reader, mut writer) = self.records(depth + 1);
            if self.chance(4) {
                writer = json!(["null", writer]);
            }
            return Pair {
                reader: json!({"name": name, "type": reader}),
                writer: Some(json!({"name": name, "type": writer})),
            };
        }
        let (kind, mut written, default) = self.leaf();
        let nullable = self.chance(3);
        let null_first = self.chance(2);
        let optional = |kind: &Json| if null_first { json!(["null", kind]) } else { json!([kind, "null"]) };
        let mut reader = json!({"name": name, "type": if nullable { optional(&kind) } else { kind }});
        let has_default = self.chance(2);
        if has_default {
            reader["default"] = if nullable && null_first { Json::Null } else { default };
        }
        written = match self.random.below(if nullable { 4 } else { 8 }) {
            0 => json!(["null", written]),
            1 => json!([written, "null"]),
            2 => json!([{"type": "array", "items": "int"}, written, "null"]),
            _ => written,
        };
        let dropped = has_default && self.chance(3);
        Pair { reader, writer: (!dropped).then(|| json!({"name": name, "type": written})) }
    }

    /// Reader's type, a writer's type that can become it, a default.
    fn leaf(&mut self) -> (Json, Json, Json) {
        let time = json!({"type": "long", "logicalType": "timestamp-millis"});
        match self.random.below(8) {
            0 => (json!("boolean"), json!("boolean"), json!(true)),
            1 => (json!("int"), json!("int"), json!(-7)),
            2 => (json!("long"), json!(*self.pick(&["int", "long"])), json!(1_i64 << 40)),
            3 => (json!("float"), json!(*self.pick(&["int", "long", "float"])), json!(0.5)),
            4 => (json!("double"), json!(*self.pick(&["int", "long", "float", "double"])), json!(2)),
            5 => (json!("string"), json!(*self.pick(&["string", "bytes"])), json!("default")),
            6 => (time.clone(), self.pick(&[time, json!("long"), json!("int")]).clone(), json!(1_700_000_000_000_i64)),
            _ => self.enums(),
        }
    }

    fn enums(&mut self) -> (Json, Json, Json) {
        let name = self.name("Enum");
        let mut symbols = vec!["a", "b", "c", "d", "e"];
        self.shuffle(&mut symbols);
        let mut reader = json!({"type": "enum", "name": name, "symbols": symbols[..3]});
        if self.chance(3) {
            reader["default"] = json!(symbols[1]);
        }
        let default = json!(symbols[0]);
        let known = if self.chance(3) { 5 } else { 3 };
        let mut written = symbols[..known].to_vec();
        self.shuffle(&mut written);
        (reader, json!({"type": "enum", "name": name, "symbols": written}), default)
    }

    /// Any type at all, to be skipped.
    fn any_type(&mut self, depth: usize) -> Json {
        let primitive = ["null", "boolean", "int", "long", "float", "double", "bytes", "string"];
        match self.random.below(if depth < 3 { 14 } else { 8 }) {
            n @ 0..8 => json!(primitive[n]),
            8 => json!({"type": "array", "items": self.any_type(depth + 1)}),
            9 => json!({"type": "map", "values": self.any_type(depth + 1)}),
            10 => json!({"type": "fixed", "name": self.name("Fixed"), "size": 5}),
            11 => json!({"type": "enum", "name": self.name("Enum"), "symbols": ["p", "q"]}),
            12 => json!(["null", {"type": "array", "items": self.any_type(depth + 1)}, "long"]),
            _ => {
                let fields: Vec<Json> = (0..self.random.below(4))
                    .map(|_| json!({"name": self.name("x"), "type": self.any_type(depth + 1)}))
                    .collect();
                json!({"type": "record", "name": self.name("Any"), "fields": fields})
            }
        }
    }

    /// A random value of a schema.
    fn value(&mut self, schema: &Schema) -> Value {
        match schema {
            Schema::Null => Value::Null,
            Schema::Boolean => Value::Boolean(self.chance(2)),
            Schema::Int => Value::Int(self.integer() as i32),
            Schema::Long => Value::Long(self.integer() % 200_000_000_000_000),
            Schema::TimestampMillis => Value::TimestampMillis(self.integer() % 60_000_000_000_000),
            Schema::Float => Value::Float(self.integer() as f32 / 8.0),
            Schema::Double => Value::Double(f64::from_bits(self.random.next() & !(1 << 62))),
            Schema::Bytes if self.chance(8) => Value::Bytes(vec![b'a', 0xFF]),
            Schema::Bytes => Value::Bytes(self.text().into_bytes()),
            Schema::String => Value::String(self.text()),
            Schema::Fixed(fixed) => Value::Fixed(fixed.size, vec![7; fixed.size]),
            Schema::Enum(symbols) => {
                let index = self.random.below(symbols.symbols.len());
                Value::Enum(index as u32, symbols.symbols[index].clone())
            }
            Schema::Array(array) => Value::Array((0..self.random.below(4)).map(|_| self.value(&array.items)).collect()),
            Schema::Map(map) => {
                Value::Map((0..self.random.below(4)).map(|n| (format!("k{n}"), self.value(&map.types))).collect())
            }
            Schema::Union(union) => {
                let index = self.random.below(union.variants().len());
                Value::Union(index as u32, Box::new(self.value(&union.variants()[index])))
            }
            Schema::Record(record) => Value::Record(
                record.fields.iter().map(|field| (field.name.clone(), self.value(&field.schema))).collect(),
            ),
            other => unreachable!("{other:?} is not generated"),
        }
    }

    fn integer(&mut self) -> i64 {
        let shift = self.random.below(64);
        (self.random.next() >> shift) as i64
    }

    fn text(&mut self) -> String {
        (*self.pick(&["", "sensor_001", "zürich", "\u{1F321}"])).to_owned()
    }
}

/// The oracle's value as the row of the stream.
fn flat(value: &Value, node: &RecordNode, row: &mut Vec<Scalar>) {
    let Value::Record(fields) = value else {
        panic!("{value:?} is no record");
    };
    for ((_, value), field) in fields.iter().zip(&node.fields) {
        match &field.node {
            Node::Record(inner) => flat(value, inner, row),
            Node::Leaf(_) => row.push(scalar(value)),
        }
    }
}

fn scalar(value: &Value) -> Scalar {
    match value {
        Value::Union(_, inner) => scalar(inner),
        Value::Null => Scalar::Null,
        Value::Boolean(value) => Scalar::Boolean(*value),
        Value::Int(value) => Scalar::Integer(i64::from(*value)),
        Value::Long(value) | Value::TimestampMillis(value) => Scalar::Integer(*value),
        Value::Float(value) => Scalar::Number(f64::from(*value)),
        Value::Double(value) => Scalar::Number(*value),
        Value::String(value) | Value::Enum(_, value) => Scalar::Text(value.clone()),
        other => unreachable!("{other:?} is not supported"),
    }
}

struct Case {
    decoder: Decoder,
    writer: Schema,
    reader: Schema,
    datum: Vec<u8>,
}

fn case(seed: u64) -> Case {
    let mut generator = Generator::new(seed);
    let (reader, writer) = generator.records(0);
    let (reader, writer) = (reader.to_string(), writer.to_string());
    let mut decoder = Decoder::new(Arc::new(StreamSchema::parse(&reader).unwrap()), DecodeLimits::default());
    decoder.add_writer_schema(1, &writer).unwrap();
    let (reader, writer) = (Schema::parse_str(&reader).unwrap(), Schema::parse_str(&writer).unwrap());
    let value = generator.value(&writer);
    let block = generator.chance(2).then_some(2);
    let datum = GenericDatumWriter::builder(&writer)
        .maybe_target_block_size(block)
        .build()
        .unwrap()
        .write_value_to_vec(value)
        .unwrap();
    Case { decoder, writer, reader, datum }
}

impl Case {
    fn ours(&mut self, datum: &[u8]) -> Result<Vec<Scalar>, (ErrorClass, String)> {
        one(&mut self.decoder, [&[0, 0, 0, 0, 1][..], datum].concat())
    }

    /// What apache-avro reads, under the one rule of a stream that Avro does not have: times lie in the years 1 to 9999.
    fn oracle(&self, mut datum: &[u8]) -> Result<Vec<Scalar>, String> {
        let reader = GenericDatumReader::builder(&self.writer).reader_schema(&self.reader).build().unwrap();
        let value = reader.read_value(&mut datum).map_err(|error| error.to_string())?;
        let mut row = Vec::new();
        flat(&value, &self.decoder.schema().root, &mut row);
        for (value, field) in row.iter().zip(&self.decoder.schema().fields) {
            match (&field.kind, value) {
                (Kind::Timestamp, Scalar::Integer(ms)) if !is_in_range(*ms) => {
                    return Err(format!("{ms} is outside the years that a stream takes"));
                }
                _ => {}
            }
        }
        Ok(row)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn an_evolved_record_is_read_as_apache_avro_reads_it(seed in any::<u64>()) {
        let mut case = case(seed);
        let datum = case.datum.clone();
        let (ours, oracle) = (case.ours(&datum), case.oracle(&datum));
        match (ours, oracle) {
            (Ok(ours), Ok(oracle)) => prop_assert_eq!(ours, oracle),
            (Err(_), Err(_)) => {}
            (ours, oracle) => prop_assert!(false, "{:?} {:?}\nwriter {:?}\nreader {:?}", ours, oracle, case.writer, case.reader),
        }
    }

    #[test]
    fn a_damaged_record_is_refused_or_read_to_its_last_byte(seed in any::<u64>(), damage in any::<u64>()) {
        let mut case = case(seed);
        let mut random = SplitMix64::new(damage);
        let mut datum = case.datum.clone();
        for _ in 0..=random.below(3) {
            match random.below(3) {
                0 => datum.truncate(random.below(datum.len() + 1)),
                1 => datum.insert(random.below(datum.len() + 1), random.next() as u8),
                _ if datum.is_empty() => {}
                _ => {
                    let place = random.below(datum.len());
                    datum[place] ^= 1 << random.below(8);
                }
            }
        }
        if let Ok(row) = case.ours(&datum) {
            for (scalar, field) in row.iter().zip(&case.decoder.schema().fields) {
                prop_assert!(field.nullable || *scalar != Scalar::Null);
                prop_assert!(!matches!((scalar, &field.kind), (Scalar::Number(n), Kind::Double) if !n.is_finite()));
            }
            let longer = [datum.as_slice(), &[0]].concat();
            prop_assert_eq!(case.ours(&longer).unwrap_err().0, ErrorClass::Decode);
            if !datum.is_empty() {
                prop_assert_eq!(case.ours(&datum[..datum.len() - 1]).unwrap_err().0, ErrorClass::Decode);
            }
        }
    }
}

#[test]
fn a_plain_long_that_is_no_time_of_ours_is_refused() {
    let mut case = case(9_430_817_231_210_307_417);
    let datum = case.datum.clone();
    assert_eq!(case.ours(&datum).unwrap_err().0, ErrorClass::Contract);
    assert!(case.oracle(&datum).is_err());
}

#[test]
fn about_half_of_the_generated_records_are_good() {
    let good = (0..500).filter(|seed| case(*seed).oracle(&case(*seed).datum).is_ok()).count();
    assert!((150..350).contains(&good), "{good} of 500");
}
