//! The command `streamward`.

use std::process::ExitCode;

/// Gives freed memory back after seconds, from all threads alike; see `docs/adr/0016-jemalloc.md`.
#[cfg(not(target_env = "msvc"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    streamward::cli::main()
}
