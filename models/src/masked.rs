//! The masked-language-model head of BERT (Devlin et al. 2018, <https://arxiv.org/abs/1810.04805>): hidden states of masked
//! tokens to words, by a dense layer, a norm, and the word embeddings themselves.

use std::collections::HashMap;

use candle_core::Tensor;

use crate::{
    Batch, Learner, ModelError, Parameters,
    encoder::{LayerNorm, Linear, View},
    fused::{
        encoder::linear_backward,
        product::{self, Weight, add_weight_gradient, input_gradient},
        rows::{
            Activation, Dropout, activation_backward, activation_forward, add_column_sums, cross_entropy_rows,
            norm_backward, norm_forward,
        },
    },
    learner::WORDS,
    parameters::Fill,
};

const DENSE: &str = "cls.predictions.transform.dense";
const NORM: &str = "cls.predictions.transform.LayerNorm";

/// Name of the head's bias, `[vocabulary]`: one number for each word.
pub const WORD_BIAS: &str = "cls.predictions.bias";

/// Rows of logits that are held at once: a row is as long as the vocabulary.
const ROWS: usize = 256;

/// The head; its weights go by their Hugging Face names, `cls.predictions.*`.
pub struct MaskedHead {
    dense: Linear,
    norm: LayerNorm,
    bias: Tensor,
}

/// A token that was hidden and what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// Index into the tokens of the batch.
    pub token: usize,
    /// The id that it had.
    pub id: u32,
}

/// What a step of masked language modelling gave.
#[derive(Clone, Copy, Debug, Default)]
pub struct MaskedLoss {
    /// Mean cross-entropy over the hidden tokens, in nats.
    pub loss: f64,
    /// Hidden tokens.
    pub hidden: usize,
}

impl MaskedHead {
    /// Takes or draws the head's weights.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn load(
        parameters: &mut Parameters,
        vocabulary: usize,
        hidden: usize,
        epsilon: f64,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            dense: Linear {
                weight: parameters.get(&format!("{DENSE}.weight"), (hidden, hidden), Fill::Normal)?,
                bias: parameters.get(&format!("{DENSE}.bias"), hidden, Fill::Zeros)?,
            },
            norm: LayerNorm {
                weight: parameters.get(&format!("{NORM}.weight"), hidden, Fill::Ones)?,
                bias: parameters.get(&format!("{NORM}.bias"), hidden, Fill::Zeros)?,
                epsilon,
            },
            bias: parameters.get(WORD_BIAS, vocabulary, Fill::Zeros)?,
        })
    }

    /// The head's weights among those of a checkpoint; a base keeps them, so that it can be trained on.
    pub fn among(checkpoint: HashMap<String, Tensor>) -> HashMap<String, Tensor> {
        let own = |name: &String| name == WORD_BIAS || name.starts_with(DENSE) || name.starts_with(NORM);
        checkpoint.into_iter().filter(|(name, _)| own(name)).collect()
    }

    /// The weights by their names.
    pub(crate) fn weights(&self) -> [(String, &Tensor); 5] {
        let named = |layer: &str, part: &str| format!("{layer}.{part}");
        [
            (named(DENSE, "weight"), &self.dense.weight),
            (named(DENSE, "bias"), &self.dense.bias),
            (named(NORM, "weight"), &self.norm.weight),
            (named(NORM, "bias"), &self.norm.bias),
            (WORD_BIAS.to_owned(), &self.bias),
        ]
    }

    /// One pass forward and (with `learn`) backward on the CPU; gradients are added to the learner's, times `weight`.
    ///
    /// # Errors
    /// When a text does not fit the model, or the weights are not on the CPU.
    pub fn step(
        &self,
        learner: &mut Learner<'_>,
        batch: &Batch,
        hidden_tokens: &[Hidden],
        seed: u64,
        weight: f32,
        learn: bool,
    ) -> Result<MaskedLoss, ModelError> {
        if hidden_tokens.is_empty() {
            return Ok(MaskedLoss::default());
        }
        if !learn {
            let states = learner.model().encoder().forward_fused(batch)?;
            return self.rows(learner, &states, hidden_tokens, 0.0).map(|(loss, _)| loss);
        }
        let (states, tape) = learner.states(batch, seed)?;
        let (loss, gradient) = self.rows(learner, &states, hidden_tokens, weight)?;
        let width = states.len() / batch.tokens();
        let mut whole = states;
        whole.fill(0.0);
        for (hidden, gradient) in hidden_tokens.iter().zip(gradient.chunks(width)) {
            whole[hidden.token * width..][..width].copy_from_slice(gradient);
        }
        learner.states_backward(batch, tape, whole)?;
        Ok(loss)
    }

    /// Loss over the hidden tokens; with a weight, gradients of the head and of the hidden tokens' states `[hidden, width]`.
    fn rows(
        &self,
        learner: &mut Learner<'_>,
        states: &[f32],
        hidden_tokens: &[Hidden],
        weight: f32,
    ) -> Result<(MaskedLoss, Vec<f32>), ModelError> {
        let count = hidden_tokens.len();
        let width = self.dense.bias.elem_count();
        let mut x = Vec::with_capacity(count * width);
        for hidden in hidden_tokens {
            x.extend_from_slice(&states[hidden.token * width..][..width]);
        }
        let (dense, norm, bias) = (self.dense.view()?, self.norm.view()?, View::new(&self.bias)?);
        let dense = dense.with(None);
        let norm = norm.norm();
        let mut inner = vec![0f32; count * width];
        dense.forward(&x, &mut inner);
        let mut activated = vec![0f32; count * width];
        activation_forward(Activation::Gelu, &inner, &mut activated);
        let off = Dropout::new(0.0, 0, 0);
        let mut normal = vec![0f32; count * width];
        let mut inverse = vec![0f32; count];
        let mut read = vec![0f32; count * width];
        norm_forward(norm, &activated, None, off, &mut read, Some((&mut normal, &mut inverse)));

        let model = learner.model();
        let words = View::new(&model.weights()[WORDS])?;
        let decoder = product::Linear { weight: Weight::Plain(&words), bias: &bias, input: width };
        let vocabulary = bias.len();
        let share = 1.0 / count as f32;
        let mut losses = 0f64;
        let mut gradient = vec![0f32; if weight > 0.0 { count * width } else { 0 }];
        let mut logits = vec![0f32; ROWS.min(count) * vocabulary];
        let mut bias_sums = vec![0f32; vocabulary];
        for (block, hidden) in hidden_tokens.chunks(ROWS).enumerate() {
            let range = block * ROWS * width..(block * ROWS + hidden.len()) * width;
            let logits = &mut logits[..hidden.len() * vocabulary];
            decoder.forward(&read[range.clone()], logits);
            let targets: Vec<u32> = hidden.iter().map(|hidden| hidden.id).collect();
            let losses_of = cross_entropy_rows(logits, &targets, share * weight);
            losses += losses_of.iter().map(|&loss| f64::from(loss)).sum::<f64>();
            if weight > 0.0 {
                let gradients = learner
                    .gradients()
                    .encoder()
                    .ok_or_else(|| ModelError::Config("masked language modelling runs on the CPU".into()))?;
                // Every word's embedding is in every sum of exponentials, so no row of the table is left out.
                (0..vocabulary as u32).for_each(|id| gradients.touch(id));
                add_weight_gradient(logits, &read[range.clone()], width, &mut gradients.words);
                add_column_sums(&mut bias_sums, logits);
                input_gradient(logits, &words, width, false, &mut gradient[range]);
            }
        }
        let loss = MaskedLoss { loss: losses / count as f64, hidden: count };
        if weight > 0.0 {
            let mut norm_sums = (vec![0f32; width], vec![0f32; width]);
            norm_backward(norm.weight, &normal, &inverse, &mut gradient, &mut norm_sums.0, &mut norm_sums.1);
            activation_backward(Activation::Gelu, &inner, &mut gradient);
            let mut sums = (vec![0f32; width * width], vec![0f32; width]);
            let mut out = vec![0f32; count * width];
            linear_backward(&dense, &gradient, &x, &mut sums, &mut out, false);
            let gradients = learner.gradients();
            gradients.add(&format!("{DENSE}.weight"), &sums.0);
            gradients.add(&format!("{DENSE}.bias"), &sums.1);
            gradients.add(&format!("{NORM}.weight"), &norm_sums.0);
            gradients.add(&format!("{NORM}.bias"), &norm_sums.1);
            gradients.add(WORD_BIAS, &bias_sums);
            gradient = out;
        }
        Ok((loss, gradient))
    }
}
