//! What can go wrong at reply time, in sentences for the person who can act.

use std::path::PathBuf;

/// An error of the engine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The model folder cannot be loaded.
    #[error(transparent)]
    Model(#[from] yingda_models::ModelError),
    /// The model failed on a batch: a fault of this program.
    #[error("the model failed on a batch: {0}")]
    Batch(String),
    /// Too many texts are waiting.
    #[error("busy: {waiting} texts are waiting for the model and the queue holds {capacity}; try again shortly")]
    Busy {
        /// Texts that wait now.
        waiting: usize,
        /// The most that may wait.
        capacity: usize,
    },
    /// The model thread has stopped.
    #[error("the model thread has stopped; restart the service")]
    WorkerStopped,
    /// Limits that contradict each other.
    #[error("{0}")]
    Limits(String),
    /// The policy settings are not usable.
    #[error("{0}")]
    Policy(String),
    /// The store folder is open elsewhere.
    #[error(
        "the reply store in {path} is in use by another process; stop that one or choose another folder with --data"
    )]
    StoreInUse {
        /// Folder of the store.
        path: PathBuf,
    },
    /// The store was filled by another model.
    #[error(
        "the reply store {store} was filled by model {found}, but the model now served is {wanted}; \
         fill it again with `yingda index` (what is published), or `yingda index FILE`"
    )]
    StoreOfAnotherModel {
        /// Where the store is.
        store: String,
        /// Model id recorded in the store.
        found: String,
        /// Model id of the model folder.
        wanted: String,
    },
    /// The store was filled by another version of this program.
    #[error(
        "the reply store {store} was filled by another version of yingda; fill it again with `yingda index` (what is published), \
         or `yingda index FILE`"
    )]
    StoreOfAnotherVersion {
        /// Where the store is.
        store: String,
    },
    /// Labelled questions that cannot be tuned on.
    #[error("{0}")]
    Tuning(String),
    /// The store failed.
    #[error("the reply store {store}: {message}")]
    Store {
        /// Where the store is.
        store: String,
        /// What it said.
        message: String,
    },
    /// A knowledge entry cannot be indexed.
    #[error("knowledge entry {id}: {message}")]
    Knowledge {
        /// Its id.
        id: String,
        /// What is wrong and what to do.
        message: String,
    },
}

impl EngineError {
    /// Whether the caller can act (bad input, busy) as opposed to a fault of the service.
    pub fn is_callers(&self) -> bool {
        matches!(self, Self::Busy { .. } | Self::Knowledge { .. } | Self::Tuning(_))
    }
}
