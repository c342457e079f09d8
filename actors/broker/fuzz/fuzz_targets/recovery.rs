//! Any bytes in the files of a log: it opens, reads, takes records and is compacted without a panic. Half of the inputs
//! are damage of a log of valid batches: every batch that a reader gets then is valid, and no offset is given twice.
#![no_main]

use libfuzzer_sys::fuzz_target;
use streamward_broker::fuzzing::{recover, recover_structured};

fuzz_target!(|data: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder is made");
    let log = folder.path().join("log");
    match data.split_first() {
        Some((kind, rest)) if kind & 1 == 1 => recover_structured(&log, rest),
        _ => recover(&log, data),
    }
});
