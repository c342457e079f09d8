//! What checking a produced batch costs: `cargo run --release -p streamward-broker --features fuzzing --example validation`.
//! With a folder as argument, how long a log of 1 GiB takes to open there: closed by this version, and by an earlier one.

#![expect(clippy::print_stdout, reason = "it prints what it measures")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use streamward_broker::fuzzing::{Batches, Checksum, realistic, validate};

/// Records of a batch of about 16 KiB, and of one as large as librdkafka sends, with values of 100 bytes.
const SIZES: [usize; 2] = [140, 8_000];
const TIME: Duration = Duration::from_millis(700);

fn main() {
    match std::env::args().nth(1) {
        Some(folder) => opening(folder.as_ref()),
        None => checking(),
    }
}

fn opening(folder: &std::path::Path) {
    const LOG_BYTES: usize = 1 << 30;
    for codec in ["none", "lz4", "gzip"] {
        let batch = realistic(codec, 8_000);
        let dir = folder.join(codec);
        let mut log = Batches::open(&dir);
        (0..LOG_BYTES / batch.len()).for_each(|_| log.append(&batch));
        log.close();
        for case in ["closed", "of an earlier version"] {
            if case != "closed" {
                std::fs::remove_file(dir.join("checked")).expect("every log has the file");
            }
            let begun = Instant::now();
            drop(black_box(Batches::open(&dir)));
            println!("{codec}, {case}: {:.2} s", begun.elapsed().as_secs_f64());
        }
        std::fs::remove_dir_all(dir).expect("the log is removed");
    }
}

fn checking() {
    println!("{:<8} {:>8} {:>10} {:>12} {:>12} {:>8}", "codec", "records", "bytes", "checksum µs", "all µs", "times");
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        for records in SIZES {
            let batch = realistic(codec, records);
            let per_record = |checksum: Checksum| {
                let (begun, mut rounds) = (Instant::now(), 0_u32);
                while begun.elapsed() < TIME {
                    assert!(validate(black_box(&batch), checksum));
                    rounds += 1;
                }
                begun.elapsed().as_secs_f64() * 1e6 / f64::from(rounds) / records as f64
            };
            let (checksum, all) = (per_record(Checksum::Alone), per_record(Checksum::AndRecords));
            println!(
                "{codec:<8} {records:>8} {:>10} {checksum:>12.4} {all:>12.4} {:>8.1}",
                batch.len(),
                all / checksum
            );
        }
    }
}
