//! Nanoseconds a record to decode sensor readings from JSON and Avro: `cargo run --release --example decode_speed`.

use std::{hint::black_box, sync::Arc, time::Instant};

use streamward_core::{
    batch::RawBatch,
    decode::{DecodeLimits, Decoder},
    encode::{JsonShape, encode_avro, encode_json, encode_json_scalars, push_frame},
    schema::{Scalar, StreamSchema},
};

const SENSORS: &str = include_str!("../../../schemas/sensor_reading.avsc");
const RECORDS: usize = 1000;
/// Short rounds, many times: on a busy machine some of them run undisturbed.
const ROUNDS: usize = 3000;

fn row(index: usize) -> Vec<Scalar> {
    #[expect(clippy::cast_precision_loss, reason = "indexes are small")]
    let value = (index * 37 % 3500) as f64 / 100.0;
    let number = |n: usize| Scalar::Integer(i64::try_from(n).expect("indexes are small"));
    vec![
        Scalar::Text(format!("sensor_{:03}", index % 10)),
        Scalar::Text(["temperature", "humidity", "pressure"][index % 3].to_owned()),
        Scalar::Number(value),
        number(1_767_355_445_678 + index),
        Scalar::Text(format!("zone_{}", index % 5)),
        Scalar::Boolean(index.is_multiple_of(20)),
        number(20 + index % 80),
        number(index % 50),
    ]
}

fn batch(write: impl Fn(usize) -> Vec<u8>) -> RawBatch {
    let mut batch = RawBatch::with_capacity(Arc::from("sensor-readings"), 0, RECORDS * 256);
    for (offset, index) in (0..).zip(0..RECORDS) {
        batch.push(offset, 0, None, Some(&write(index)));
    }
    batch
}

fn best_ns(mut work: impl FnMut()) -> f64 {
    let mut best = u128::MAX;
    for _ in 0..ROUNDS {
        let start = Instant::now();
        work();
        best = best.min(start.elapsed().as_nanos());
    }
    #[expect(clippy::cast_precision_loss, reason = "a measurement")]
    {
        best as f64 / RECORDS as f64
    }
}

fn report(name: &str, bytes: usize, ns: f64) {
    #[expect(clippy::print_stdout, reason = "this is what the example is for")]
    {
        println!("{name:<24} {:>4} bytes {ns:>7.1} ns a record", bytes / RECORDS);
    }
}

fn main() {
    let schema = Arc::new(StreamSchema::parse(SENSORS).expect("the schema of the product"));
    let mut decoder = Decoder::new(Arc::clone(&schema), DecodeLimits::default());
    decoder.add_writer_schema(1, SENSORS).expect("the schema of the product");
    let json = batch(|index| {
        let mut out = Vec::new();
        encode_json_scalars(&row(index), &schema, JsonShape::Nested, &mut out);
        out
    });
    let avro = batch(|index| {
        let mut out = Vec::new();
        push_frame(1, &mut out);
        encode_avro(&schema, &row(index), &mut out).expect("the row fits");
        out
    });
    let damaged = batch(|index| {
        let mut out = Vec::new();
        encode_json_scalars(&row(index), &schema, JsonShape::Nested, &mut out);
        out.truncate(if index.is_multiple_of(10) { 100 } else { out.len() });
        out
    });
    for (name, raw) in [("JSON", &json), ("Avro", &avro), ("JSON, 1 in 10 truncated", &damaged)] {
        let ns = best_ns(|| {
            black_box(decoder.decode(black_box(raw), 0..RECORDS));
        });
        report(name, raw.bytes(), ns);
    }
    let ids = best_ns(|| {
        black_box(decoder.unresolved_ids(black_box(&avro)));
    });
    report("scan for schema ids", avro.bytes(), ids);
    let rows = decoder.decode(&avro, 0..RECORDS).batch;
    let mut out = Vec::new();
    let encode = best_ns(|| {
        for row in 0..RECORDS {
            out.clear();
            encode_json(black_box(&rows), row, &schema, JsonShape::Flat, &mut out);
            black_box(&out);
        }
    });
    report("encode JSON", json.bytes(), encode);
    let scalars: Vec<Vec<Scalar>> = (0..RECORDS).map(row).collect();
    let encode = best_ns(|| {
        for row in &scalars {
            out.clear();
            encode_avro(&schema, black_box(row), &mut out).expect("the row fits");
            black_box(&out);
        }
    });
    report("encode Avro", avro.bytes(), encode);
}
