//! `bench`: measurements.

mod store;

use clap::Subcommand;
use yingda::StartError;
use yingda::config::Flags;

/// Measurements.
#[derive(Subcommand)]
pub(super) enum Bench {
    /// Fill a reply store with made-up entries and search it: build time, disk, memory, recall, latency, also while it changes
    Store(store::StoreFlags),
}

pub(super) async fn run(flags: Flags, bench: Bench) -> Result<(), StartError> {
    match bench {
        Bench::Store(store) => store::run(flags, store).await,
    }
}
