//! `bench`: how fast this program trains and serves, and how well its models do, beside peers that are measured in the same
//! run.

pub mod accuracy;
pub mod input;
pub mod speed;

use std::{ffi::OsStr, path::Path, process::Command};

use clap::Subcommand;

use self::{accuracy::AccuracyFlags, input::InputFlags, speed::SpeedFlags};
use crate::{TrainError, output};

/// What is measured.
#[derive(Subcommand, Clone, Debug)]
pub enum BenchCommand {
    /// Time training steps; the peer is PyTorch with transformers (`bench/training_speed.py`)
    Training(SpeedFlags),
    /// Time forward passes in f32 and int8; the peer is onnxruntime (`bench/serving_speed.py`)
    Serving(SpeedFlags),
    /// Time what stands before the model: reading chats, checking them, tokenizing, batches
    Input(InputFlags),
    /// Score models on the tasks that `bench/prepare.py` makes; the peers are TF-IDF and BM25 (`bench/tfidf.py`), and the
    /// same architecture started at random
    Accuracy(AccuracyFlags),
}

/// Runs a peer's script and reads the JSON that it prints.
fn peer<S: AsRef<OsStr>>(python: &Path, script: &Path, arguments: &[S]) -> Result<serde_json::Value, TrainError> {
    output::line(&format!("peer: {}", script.display()));
    let run = Command::new(python).arg(script).args(arguments).output().map_err(|error| {
        TrainError::Usage(format!("--python {} cannot be run: {error}; name a Python interpreter", python.display()))
    })?;
    if !run.status.success() {
        let said = String::from_utf8_lossy(&run.stderr);
        return Err(TrainError::Usage(format!(
            "{} failed: {}; install what tests/python/requirements.txt names for --python, and run from the repository's root",
            script.display(),
            said.trim().lines().last().unwrap_or_default()
        )));
    }
    serde_json::from_slice(&run.stdout)
        .map_err(|error| TrainError::Usage(format!("{} did not print JSON: {error}", script.display())))
}
