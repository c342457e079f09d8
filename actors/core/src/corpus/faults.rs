//! The kinds of faults. Each takes a good record and spoils it in one way.

use apache_avro::{Schema, reader::datum::GenericDatumReader};

use super::{Expect, Maker, leaf_of};
use crate::{
    output::ErrorClass::{self, Contract, Decode},
    schema::{Field, Kind, Scalar},
};

/// A value and what must become of it.
pub(super) struct Made {
    pub value: Option<Vec<u8>>,
    pub expect: Expect,
}

type Make = fn(&mut Maker<'_>) -> Option<Made>;

/// Tries until a random flip must count as a fault; most flips hit a text, which stays a text.
const MAX_FLIPS: usize = 1000;
/// Stands in a JSON text where raw bytes will be.
const MARK: &str = "\"@@mark@@\"";

pub(super) const FAULTS: [(&str, Make); 29] = [
    ("malformed JSON", malformed),
    ("truncated JSON", truncated_json),
    ("trailing bytes after JSON", |maker| appended(maker, b" x")),
    ("a bracket too many", |maker| appended(maker, b"}")),
    ("two objects", two_objects),
    ("wrong type: array", |maker| spoiled(maker, |_| true, b"[1]", Contract)),
    ("wrong type: object", |maker| spoiled(maker, |_| true, b"{\"a\":1}", Contract)),
    ("null in a field that is not nullable", |maker| spoiled(maker, |field| !field.nullable, b"null", Contract)),
    ("quoted number", |maker| spoiled(maker, is_number, b"\"12\"", Contract)),
    ("int with a fraction", |maker| spoiled(maker, is_integer, b"1.0", Contract)),
    ("int overflow", |maker| spoiled(maker, |field| field.kind == Kind::Int, b"2147483648", Contract)),
    ("double overflow", |maker| spoiled(maker, is_float, b"1e999", Contract)),
    ("NaN literal", |maker| spoiled(maker, is_float, b"NaN", Decode)),
    ("unknown enum symbol", |maker| spoiled(maker, is_enum, b"\"no such symbol\"", Contract)),
    ("unparseable time", |maker| spoiled(maker, is_time, b"\"2026-02-30T00:00:00Z\"", Contract)),
    ("invalid UTF-8", |maker| spoiled(maker, |field| field.kind == Kind::String, b"\"a\xFFb\"", Decode)),
    ("missing field", missing_field),
    ("duplicate key", duplicate_key),
    ("bit flip in JSON", flipped_json),
    ("not an object", |_| bad(b"[1,2,3]".to_vec(), Contract)),
    ("null value", |_| Some(Made { value: None, expect: Expect::Bad(Contract) })),
    ("empty value", |_| bad(Vec::new(), Decode)),
    ("oversized value", oversized),
    ("binary garbage", garbage),
    ("unknown schema id", unknown_schema_id),
    ("truncated Avro", truncated_avro),
    ("trailing bytes after Avro", trailing_avro),
    ("NaN in Avro", nan_in_avro),
    ("bit flip in Avro", flipped_avro),
];

fn bad(value: Vec<u8>, class: ErrorClass) -> Option<Made> {
    Some(Made { value: Some(value), expect: Expect::Bad(class) })
}

fn is_integer(field: &Field) -> bool {
    matches!(field.kind, Kind::Int | Kind::Long)
}

fn is_float(field: &Field) -> bool {
    matches!(field.kind, Kind::Float | Kind::Double)
}

fn is_number(field: &Field) -> bool {
    is_integer(field) || is_float(field)
}

fn is_enum(field: &Field) -> bool {
    matches!(field.kind, Kind::Enum(_))
}

fn is_time(field: &Field) -> bool {
    field.kind == Kind::Timestamp
}

impl Maker<'_> {
    fn good_json(&mut self) -> Vec<u8> {
        let row = self.row();
        self.json(&row)
    }

    fn good_avro(&mut self) -> Vec<u8> {
        let row = self.row();
        self.avro(&row)
    }

    fn leaf_where(&mut self, wanted: impl Fn(&Field) -> bool) -> Option<usize> {
        let fields = self.schema.fields.iter().enumerate();
        let leaves: Vec<usize> = fields.filter(|(_, field)| wanted(field)).map(|(index, _)| index).collect();
        leaves.get(self.random.below(leaves.len())).copied()
    }
}

/// A JSON object in which one leaf is replaced by raw bytes.
fn spoiled(maker: &mut Maker<'_>, wanted: fn(&Field) -> bool, raw: &[u8], class: ErrorClass) -> Option<Made> {
    let leaf = maker.leaf_where(wanted)?;
    let row = maker.row();
    let mut tree = maker.tree(&row);
    *leaf_of(&mut tree, &maker.schema.fields[leaf]) = serde_json::Value::from(MARK.trim_matches('"'));
    let text = tree.to_string();
    let (before, after) = text.split_once(MARK)?;
    bad([before.as_bytes(), raw, after.as_bytes()].concat(), class)
}

fn malformed(maker: &mut Maker<'_>) -> Option<Made> {
    let mut value = maker.good_json();
    let colon = value.iter().position(|byte| *byte == b':')?;
    value[colon] = b'=';
    bad(value, Decode)
}

fn truncated_json(maker: &mut Maker<'_>) -> Option<Made> {
    let mut value = maker.good_json();
    value.truncate(1 + maker.random.below(value.len() - 1));
    bad(value, Decode)
}

fn appended(maker: &mut Maker<'_>, tail: &[u8]) -> Option<Made> {
    let mut value = maker.good_json();
    value.extend_from_slice(tail);
    bad(value, Decode)
}

fn two_objects(maker: &mut Maker<'_>) -> Option<Made> {
    let (mut value, second) = (maker.good_json(), maker.good_json());
    value.push(b'\n');
    value.extend_from_slice(&second);
    bad(value, Decode)
}

fn missing_field(maker: &mut Maker<'_>) -> Option<Made> {
    let leaf = maker.leaf_where(|field| field.default.is_none())?;
    let row = maker.row();
    let mut tree = maker.tree(&row);
    let (name, parents) = maker.schema.fields[leaf].path.split_last()?;
    let parent = parents.iter().fold(&mut tree, |node, name| &mut node[name.as_str()]);
    parent.as_object_mut()?.remove(name);
    bad(tree.to_string().into_bytes(), Contract)
}

fn duplicate_key(maker: &mut Maker<'_>) -> Option<Made> {
    let row = maker.row();
    let tree = maker.tree(&row);
    let object = tree.as_object()?;
    let (name, value) = object.iter().nth(maker.random.below(object.len()))?;
    let text = tree.to_string();
    bad(format!("{{\"{name}\":{value},{}", text.strip_prefix('{')?).into_bytes(), Decode)
}

fn oversized(maker: &mut Maker<'_>) -> Option<Made> {
    let limit = maker.options.max_record_bytes?;
    let mut value = maker.good_json();
    value.resize(value.len().max(limit) + 1, b' ');
    bad(value, Contract)
}

fn garbage(maker: &mut Maker<'_>) -> Option<Made> {
    let length = maker.random.below(64);
    let mut value = vec![0x93];
    value.extend((0..length).map(|_| maker.random.next().to_le_bytes()[0]));
    bad(value, Decode)
}

fn unknown_schema_id(maker: &mut Maker<'_>) -> Option<Made> {
    let mut value = maker.good_avro();
    value[1..5].copy_from_slice(&maker.options.unknown_schema_id.to_be_bytes());
    bad(value, Contract)
}

fn truncated_avro(maker: &mut Maker<'_>) -> Option<Made> {
    let mut value = maker.good_avro();
    value.truncate(1 + maker.random.below(value.len() - 1));
    bad(value, Decode)
}

fn trailing_avro(maker: &mut Maker<'_>) -> Option<Made> {
    let mut value = maker.good_avro();
    value.push(maker.random.next().to_le_bytes()[0]);
    bad(value, Decode)
}

fn nan_in_avro(maker: &mut Maker<'_>) -> Option<Made> {
    const MARKER: f64 = 7.215_364_982_715_36e-197;
    let leaf = maker.leaf_where(|field| field.kind == Kind::Double)?;
    let mut row = maker.row();
    row[leaf] = Scalar::Number(MARKER);
    let mut value = maker.avro(&row);
    let place = value.windows(8).position(|bytes| bytes == MARKER.to_le_bytes())?;
    let number = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY][maker.random.below(3)];
    value[place..place + 8].copy_from_slice(&number.to_le_bytes());
    bad(value, Contract)
}

fn flipped_json(maker: &mut Maker<'_>) -> Option<Made> {
    let good = maker.good_json();
    let value = flipped(maker, &good, 0, |value| serde_json::from_slice::<serde_json::Value>(value).is_err())?;
    bad(value, Decode)
}

fn flipped_avro(maker: &mut Maker<'_>) -> Option<Made> {
    let good = maker.good_avro();
    let schema = Schema::parse_str(&maker.schema.avro).ok()?;
    let reader = GenericDatumReader::builder(&schema).build().ok()?;
    let value = flipped(maker, &good, 5, |value| {
        let mut datum = &value[5..];
        reader.read_value(&mut datum).is_err() || !datum.is_empty()
    })?;
    bad(value, Decode)
}

/// The value with one bit flipped beyond `from`, such that the oracle refuses it.
fn flipped(maker: &mut Maker<'_>, good: &[u8], from: usize, refused: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
    for _ in 0..MAX_FLIPS {
        let mut value = good.to_vec();
        let place = from + maker.random.below(value.len() - from);
        value[place] ^= 1 << maker.random.below(8);
        if value[0] == good[0] && refused(&value) {
            return Some(value);
        }
    }
    None
}
