//! Work that is done again and again while the service runs.

use std::collections::HashMap;
use std::fmt::Display;
use std::time::Duration;

use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Interval, MissedTickBehavior, interval};

/// Rounds of work. What fails is told once, and tried again in the next round.
pub(crate) struct Rounds {
    ticks: Interval,
    round: u32,
    failing: bool,
    not_done: &'static str,
}

impl Rounds {
    /// A round every so often, the first at once. `not_done` tells what does not happen while they fail.
    pub(crate) fn new(every: Duration, not_done: &'static str) -> Self {
        let mut ticks = interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ticks, round: 0, failing: false, not_done }
    }

    /// Waits for the next round, and gives its number, from 1.
    pub(crate) async fn next(&mut self) -> u32 {
        self.ticks.tick().await;
        self.round = self.round.wrapping_add(1);
        self.round
    }

    /// A round has ended.
    pub(crate) fn ended<E: Display>(&mut self, done: Result<(), E>) {
        if let Err(error) = &done
            && !self.failing
        {
            tracing::warn!(%error, "{}; trying again", self.not_done);
        }
        self.failing = done.is_err();
    }
}

/// Work that goes on from round to round, one piece at a time under each name, so that a slow one holds up no other. It ends with
/// this.
#[derive(Default)]
pub(crate) struct Lanes {
    tasks: JoinSet<()>,
    running: HashMap<String, AbortHandle>,
}

impl Lanes {
    /// Begins work under a name, unless some of that name goes on.
    pub(crate) fn start(&mut self, name: &str, work: impl Future<Output = ()> + Send + 'static) {
        while self.tasks.try_join_next().is_some() {}
        self.running.retain(|_, task| !task.is_finished());
        if !self.running.contains_key(name) {
            self.running.insert(name.to_owned(), self.tasks.spawn(work));
        }
    }
}
