//! What can go wrong while training, in sentences for the person who can act.

use std::path::{Path, PathBuf};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The data cannot be read.
    #[error(transparent)]
    Data(#[from] yingda_datasets::DatasetsError),
    /// The model cannot be made, loaded or saved.
    #[error(transparent)]
    Model(#[from] yingda_models::ModelError),
    /// The data was read and is not fit to train on; the report was printed.
    #[error("the data has {errors} problems that must be mended first (listed above); nothing was written")]
    Unfit {
        /// How many errors the checker found.
        errors: usize,
    },
    /// Flags or files contradict each other.
    #[error("{0}")]
    Usage(String),
    /// The labelled chats do not prove what was asked for; nothing was written.
    #[error("{0}")]
    NothingCertified(String),
    /// A file cannot be read or written.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// Such as `read` or `write`.
        doing: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The loss is no longer a number.
    #[error(
        "the loss is not a number any more at step {step}; the last whole epoch is in {run}. Try a lower --learning-rate"
    )]
    Diverged {
        /// Optimiser step.
        step: usize,
        /// Folder of the run.
        run: PathBuf,
    },
    /// Stopped by the user; the state was saved.
    #[error("stopped at epoch {epoch}, step {step}; go on with `yingda-train fit --out {run} --resume`")]
    Interrupted {
        /// Epoch, from 1.
        epoch: usize,
        /// Optimiser step.
        step: usize,
        /// Folder of the run.
        run: PathBuf,
    },
    /// Pretraining was stopped by the user; the state was saved.
    #[error("stopped at step {step}; go on with `yingda-train pretrain --out {run} --resume`")]
    PretrainingInterrupted {
        /// Optimiser step.
        step: usize,
        /// Folder of the run.
        run: PathBuf,
    },
    /// One of several runs was stopped by the user; the state was saved.
    #[error("stopped in {run} at epoch {epoch}, step {step}; the same command goes on from there")]
    Stopped {
        /// Epoch, from 1.
        epoch: usize,
        /// Optimiser step.
        step: usize,
        /// Folder of the run that was stopped.
        run: PathBuf,
    },
    /// A tensor operation failed: a fault of this program.
    #[error("tensor operation: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A table could not be made: a fault of this program.
    #[error("table: {0}")]
    Table(#[from] polars::error::PolarsError),
}

impl TrainError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    /// Exit code of the program: 2 for what the user can mend, 130 after Ctrl-C, 1 for a fault.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Data(_)
            | Self::Unfit { .. }
            | Self::Usage(_)
            | Self::NothingCertified(_)
            | Self::Model(_)
            | Self::Io { .. } => 2,
            Self::Interrupted { .. } | Self::PretrainingInterrupted { .. } | Self::Stopped { .. } => 130,
            Self::Diverged { .. } | Self::Tensor(_) | Self::Table(_) => 1,
        }
    }
}
