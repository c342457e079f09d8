//! Batches that are broken inside under a right checksum: refused, or read back whole by two readers.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use streamward_broker::fuzzing::Batches;
use tempfile::TempDir;

/// Batches after which a new log is taken, so that it stays small.
const BATCHES: u32 = 10_000;

struct Target {
    batches: Batches,
    sent: u32,
    _folder: TempDir,
}

thread_local!(static TARGET: RefCell<Option<Target>> = const { RefCell::new(None) });

fuzz_target!(|data: &[u8]| {
    TARGET.with_borrow_mut(|target| {
        if target.as_ref().is_none_or(|t| t.sent >= BATCHES) {
            *target = None;
            let folder = tempfile::tempdir().expect("a folder is made");
            *target = Some(Target { batches: Batches::open(folder.path()), sent: 0, _folder: folder });
        }
        if let Some(target) = target {
            target.batches.produce(data);
            target.sent += 1;
        }
    });
});
