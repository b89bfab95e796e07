//! `bench`: measurements.

mod desk;
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
    /// Fill an empty database with a made-up desk: what lists, search and reports cost, and what the database takes
    Desk(desk::DeskFlags),
    /// Replay a made-up day of a desk with the routing of tickets and two simpler ones: waits, VIPs, skills
    Routing(routing::RoutingFlags),
}

pub(super) async fn run(flags: Flags, bench: Bench) -> Result<(), StartError> {
    match bench {
        Bench::Store(store) => store::run(flags, store).await,
        Bench::Desk(desk) => desk::run(flags, desk).await,
        Bench::Routing(routing) => routing::run(&routing),
    }
}
