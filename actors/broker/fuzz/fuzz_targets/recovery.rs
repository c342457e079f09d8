//! Any bytes in the files of a log: it opens, reads, takes records and is compacted without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let folder = tempfile::tempdir().expect("a folder is made");
    streamward_broker::fuzzing::recover(&folder.path().join("log"), data);
});
