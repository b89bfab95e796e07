//! The data scientist's command line as a library: import, check, pretrain, fit, eval, calibrate, compare, export, and the
//! tools around them.
//!
//! One plain loop, no framework: rows become examples, examples become length-bucketed batches, batches become losses; the
//! best epoch is chosen on validation data and the test split is touched once.

pub mod bench;
pub mod calibrate;
pub mod card;
mod chats;
pub mod check;
pub mod compare;
pub mod confident;
pub mod embeddings;
mod error;
pub mod eval;
pub mod examples;
pub mod export;
pub mod fit;
pub mod guarantee;
pub mod import;
mod lexical;
mod lines;
pub mod loss;
pub mod metrics;
pub mod noise;
pub mod optimizer;
mod output;
pub mod pretrain;
pub mod retrieval;
mod run;
mod runs;
pub mod state;
pub mod statistics;
pub mod suggest;
pub mod sweep;
pub mod tensorboard;
mod thresholds;
pub mod tokenizer;

pub use error::TrainError;
