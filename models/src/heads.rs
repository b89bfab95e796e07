//! The two heads on top of the pooled text: intent and sentiment.

use candle_core::Tensor;

use crate::{
    ModelError, Parameters,
    encoder::{Linear, Mode},
    parameters::Fill,
};

/// One linear layer each for intent and sentiment, on the mean of the last hidden states.
pub struct Heads {
    intent: Linear,
    sentiment: Linear,
    dropout: f64,
}

impl Heads {
    /// Takes `intent.weight [intents, hidden]`, `intent.bias`, `sentiment.weight [3, hidden]` and `sentiment.bias`.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn load(
        parameters: &mut Parameters,
        intents: usize,
        sentiments: usize,
        hidden: usize,
        dropout: f64,
    ) -> Result<Self, ModelError> {
        let mut linear = |name: &str, labels: usize| {
            Ok::<_, ModelError>(Linear {
                weight: parameters.get(&format!("{name}.weight"), (labels, hidden), Fill::Normal)?,
                bias: parameters.get(&format!("{name}.bias"), labels, Fill::Zeros)?,
            })
        };
        Ok(Self { intent: linear("intent", intents)?, sentiment: linear("sentiment", sentiments)?, dropout })
    }

    /// From pooled texts `[batch, hidden]` to intent logits `[batch, intents]` and sentiment logits `[batch, 3]`.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn forward(&self, pooled: &Tensor, mode: &mut Mode<'_>) -> Result<(Tensor, Tensor), ModelError> {
        let pooled = mode.dropout(pooled, self.dropout)?;
        Ok((self.intent.forward(&pooled)?, self.sentiment.forward(&pooled)?))
    }

    /// As [`Heads::forward`] for serving on the CPU: from pooled texts to intent and sentiment logits, row by row.
    pub(crate) fn forward_rows(&self, pooled: &[f32], texts: usize) -> Result<[Vec<f32>; 2], ModelError> {
        let logits = |linear: &Linear| {
            let mut out = vec![0f32; texts * linear.bias.elem_count()];
            linear.forward_rows(pooled, &mut out)?;
            Ok::<_, ModelError>(out)
        };
        Ok([logits(&self.intent)?, logits(&self.sentiment)?])
    }
}
