//! What a text looks like to the model, and the model: tokenizer, encoder, heads, model folder.
//!
//! Training and serving share every line of this crate, so they cannot drift apart. One forward pass gives three things:
//! what the customer wants (intent), how they feel (sentiment), and where the best answer lies (embedding).

mod binomial;
mod checkpoint;
mod encoder;
mod error;
mod folder;
mod fused;
mod heads;
mod hub;
mod learner;
mod lexical;
mod masked;
mod model;
mod parameters;
pub mod selective;
pub mod text;
mod tokenizer;

pub use binomial::binomial_at_most;
pub use checkpoint::{LoadReport, read_checkpoint};
pub use encoder::{BertConfig, Encoder, HiddenAct, Mode, ServingPrecision};
pub use error::ModelError;
pub use folder::{
    FoldedIntents, Guarantee, IntentGuarantee, Labels, MODEL_FILES, ModelSettings, Pooling, Precision, Temperatures,
    Thresholds, fingerprint, replace_folder,
};
pub use heads::Heads;
pub use hub::resolve_base;
pub use learner::{Gradient, Gradients, Learner, Pass, WORDS};
pub use lexical::{Lexical, LexicalHead, grams};
pub use masked::{Hidden, MaskedHead, MaskedLoss, WORD_BIAS};
pub use model::{Forward, ModelFolder, MultiTaskModel, Output, Prediction, softmax};
pub use parameters::{Parameters, Seeded};
pub use tokenizer::{Batch, Encoded, TextTokenizer, VocabularyCounter, character_vocabulary, context};

/// The names of the three sentiments, in head order.
pub const SENTIMENTS: [&str; 3] = ["negative", "neutral", "positive"];

/// The device of a `--device` flag: `cpu`, or `cuda` (first GPU) where the `cuda` feature was compiled in.
///
/// # Errors
/// A sentence that says which devices this program knows.
pub fn device(name: &str) -> Result<candle_core::Device, ModelError> {
    match name {
        "cpu" => Ok(candle_core::Device::Cpu),
        "cuda" if cfg!(feature = "cuda") => candle_core::Device::new_cuda(0)
            .map_err(|error| ModelError::Device(format!("no CUDA device can be used: {error}; try --device cpu"))),
        "cuda" => Err(ModelError::Device(
            "this program was built without CUDA; build it with `--features cuda` where CUDA is installed, or use \
             --device cpu"
                .into(),
        )),
        other => Err(ModelError::Device(format!("unknown device {other:?}; use cpu or cuda"))),
    }
}
