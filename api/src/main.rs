//! The command line of Yingda 应答.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run()
}
