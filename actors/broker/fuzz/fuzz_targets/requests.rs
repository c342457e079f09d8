//! Any body for any request of any version: no panic, bounded memory.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use streamward_broker::fuzzing::Requests;
use tempfile::TempDir;

/// Requests after which a new broker is taken, so that what they left behind stays small.
const REQUESTS: u32 = 20_000;

struct Target {
    requests: Requests,
    answered: u32,
    _folder: TempDir,
}

thread_local!(static TARGET: RefCell<Option<Target>> = const { RefCell::new(None) });

fuzz_target!(|data: &[u8]| {
    TARGET.with_borrow_mut(|target| {
        if target.as_ref().is_none_or(|t| t.answered >= REQUESTS) {
            *target = None;
            let folder = tempfile::tempdir().expect("a folder is made");
            *target = Some(Target { requests: Requests::open(folder.path()), answered: 0, _folder: folder });
        }
        if let Some(target) = target {
            target.requests.answer(data);
            target.answered += 1;
        }
    });
});
