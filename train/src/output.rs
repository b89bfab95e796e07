//! What a run shows while it works: a progress bar on a terminal, plain lines elsewhere.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over `steps`; hidden where standard error is not a terminal.
pub(crate) fn bar(steps: usize, what: &str) -> ProgressBar {
    let target = if terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(steps as u64), target);
    bar.set_style(
        ProgressStyle::with_template("{prefix} {wide_bar} {pos}/{len} · {msg} · {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    bar.set_prefix(what.to_owned());
    bar.enable_steady_tick(Duration::from_millis(250));
    bar
}

pub(crate) fn terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// A line of the log, on standard error: standard output is for results.
#[expect(clippy::print_stderr, reason = "this is where the program speaks to its user")]
pub(crate) fn line(text: &str) {
    eprintln!("{text}");
}
