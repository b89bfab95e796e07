//! The command line of Yingda 应答.

mod cli;

use std::process::ExitCode;

/// A search of the reply store makes and drops thousands of small values; most of what they cost is the allocator's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::run()
}
