//! The command `streamward`.

use std::process::ExitCode;

fn main() -> ExitCode {
    streamward::cli::main()
}
