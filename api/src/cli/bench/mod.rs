//! `bench`: measurements.

mod routing;
mod store;

use clap::Subcommand;
use yingda::StartError;
use yingda::config::Flags;

/// Measurements.
#[derive(Subcommand)]
pub(super) enum Bench {
    /// Fill a reply store with made-up entries and search it: build time, disk, memory, recall, latency, also while it changes
    Store(store::StoreFlags),
    /// Replay a made-up day of a desk with the routing of tickets and two simpler ones: waits, VIPs, skills
    Routing(routing::RoutingFlags),
}

pub(super) async fn run(flags: Flags, bench: Bench) -> Result<(), StartError> {
    match bench {
        Bench::Store(store) => store::run(flags, store).await,
        Bench::Routing(routing) => routing::run(&routing),
    }
}
