//! The `tcpq` program.

use std::process::ExitCode;

fn main() -> ExitCode {
    tcpq::cli::main()
}
