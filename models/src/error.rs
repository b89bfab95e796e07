//! What can go wrong with a model, in sentences for the person who can act.

use std::path::{Path, PathBuf};

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
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
    /// A file of a model folder is missing.
    #[error("{folder} is not a model folder: it has no {file}; {hint}")]
    MissingFile {
        /// The folder.
        folder: PathBuf,
        /// The file that was looked for.
        file: &'static str,
        /// What to do.
        hint: &'static str,
    },
    /// A file is there but its content is not usable.
    #[error("{path} cannot be used: {message}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// Weights that the encoder needs are not in the checkpoint, or have another shape.
    #[error("the weights in {path} do not fit its configuration: {message}")]
    Weights {
        /// The checkpoint.
        path: PathBuf,
        /// Which weights, and what to do.
        message: String,
    },
    /// The configuration contradicts itself.
    #[error("model configuration: {0}")]
    Config(String),
    /// The device cannot be used.
    #[error("{0}")]
    Device(String),
    /// The hub was asked and did not give the model.
    #[error(
        "cannot fetch {name} from the hub: {message}; download it where the hub can be reached and name the folder"
    )]
    Hub {
        /// Name of the model at the hub.
        name: String,
        /// What the hub client said.
        message: String,
    },
    /// The tokenizer failed on a text.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// A tensor operation failed: a fault of this program.
    #[error("tensor operation: {0}")]
    Tensor(#[from] candle_core::Error),
}

impl ModelError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { doing, path, source }
    }

    pub(crate) fn malformed(path: &Path, message: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), message: message.into() }
    }
}
