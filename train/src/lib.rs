//! The data scientist's command line as a library: check, fit, eval, export, and the tools around them.
//!
//! One plain loop, no framework: rows become examples, examples become length-bucketed batches, batches become losses; the
//! best epoch is chosen on validation data and the test split is touched once.

pub mod calibrate;
pub mod card;
pub mod check;
pub mod confident;
pub mod embeddings;
mod error;
pub mod eval;
pub mod examples;
pub mod export;
pub mod fit;
pub mod loss;
pub mod metrics;
pub mod noise;
pub mod optimizer;
mod output;
pub mod retrieval;
mod run;
mod runs;
mod state;
pub mod suggest;
pub mod sweep;
pub mod tensorboard;

pub use error::TrainError;
