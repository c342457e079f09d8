use std::collections::BTreeMap;

use super::*;
use crate::corpus::{CorpusOptions, CorpusRecord, Expect, corpus};

const OPTIONS: CorpusOptions = CorpusOptions { schema_id: 7, unknown_schema_id: 4242, max_record_bytes: Some(20_000) };

fn run(seed: u64, count: usize) -> (Vec<CorpusRecord>, Decoded) {
    let schema = Arc::new(StreamSchema::parse(SENSORS).unwrap());
    let records = corpus(seed, count, &schema, OPTIONS);
    let mut batch = RawBatch::with_capacity(Arc::from("sensor-readings"), 0, 0);
    for (offset, record) in (0..).zip(&records) {
        batch.push(offset, 0, record.key.as_deref(), record.value.as_deref());
    }
    let mut decoder = Decoder::new(schema, DecodeLimits { max_record_bytes: 20_000 });
    decoder.add_writer_schema(7, SENSORS).unwrap();
    let unresolved = decoder.unresolved_ids(&batch);
    assert!(unresolved.iter().all(|id| *id == 4242), "{unresolved:?}");
    decoder.add_missing(4242);
    let decoded = decoder.decode(&batch, 0..batch.len());
    (records, decoded)
}

#[test]
fn every_bad_record_is_rejected_and_every_good_one_kept_with_neighbours_intact() {
    let (records, decoded) = run(1, 5000);
    let bad: BTreeMap<usize, ErrorClass> =
        decoded.rejected.iter().map(|rejected| (rejected.index as usize, rejected.class)).collect();
    let mut row = 0;
    for (index, record) in records.iter().enumerate() {
        match &record.expect {
            Expect::Good(scalars) => {
                assert!(!bad.contains_key(&index), "{}: {record:?}", record.fault);
                assert_eq!(decoded.rows[row] as usize, index);
                assert_eq!(&scalars_at(&decoded.batch, row), scalars, "{}", record.fault);
                row += 1;
            }
            Expect::Bad(class) => {
                let text = record.value.as_deref().map(String::from_utf8_lossy);
                assert_eq!(bad.get(&index), Some(class), "{}: {text:?}", record.fault);
            }
        }
    }
    assert_eq!((row, bad.len()), (4500, 500));
    assert_eq!(decoded.batch.num_rows(), row);
}

#[test]
fn a_corpus_has_every_kind_of_fault() {
    let (records, decoded) = run(2, 1000);
    let faults: std::collections::BTreeSet<&str> =
        records.iter().filter(|record| matches!(record.expect, Expect::Bad(_))).map(|record| record.fault).collect();
    assert_eq!(faults.len(), 29, "{faults:?}");
    assert!(decoded.unknown_fields > 0);
}

#[test]
fn a_seed_gives_the_same_records_again() {
    assert_eq!(run(3, 200).0, run(3, 200).0);
    assert_ne!(run(3, 200).0, run(4, 200).0);
}

#[test]
fn any_seed_keeps_the_promise() {
    for seed in 100..130 {
        let (records, decoded) = run(seed, 300);
        let good = records.iter().filter(|record| matches!(record.expect, Expect::Good(_))).count();
        assert_eq!((decoded.rows.len(), decoded.rejected.len()), (good, 300 - good), "seed {seed}");
    }
}
