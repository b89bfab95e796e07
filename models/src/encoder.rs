//! The BERT encoder (Devlin et al. 2018, <https://arxiv.org/abs/1810.04805>), differentiable in training and fused when
//! serving: one definition, one set of weights, equal outputs.
//!
//! candle-transformers' `BertModel` cannot be fine-tuned: its layer norm and its softmax take fused paths that have no
//! backward pass and cut the gradient silently, and its dropout does nothing. It stays the reference of a parity test.

use candle_core::{D, Tensor};
pub use candle_transformers::models::bert::{Config as BertConfig, HiddenAct};

use crate::{Batch, ModelError, Parameters, Seeded, parameters::Fill};

/// How a forward pass runs.
pub enum Mode<'a> {
    /// Fused operations without a backward pass, no dropout.
    Serve,
    /// Differentiable operations, with dropout drawn from the generator.
    Train(&'a mut Seeded),
}

impl Mode<'_> {
    pub(crate) fn dropout(&mut self, x: &Tensor, probability: f64) -> Result<Tensor, ModelError> {
        match self {
            Mode::Train(generator) if probability > 0.0 => {
                let mask = generator.dropout_mask(x.elem_count(), probability);
                Ok((x * Tensor::from_vec(mask, x.shape(), x.device())?)?)
            }
            _ => Ok(x.clone()),
        }
    }
}

/// `x Wᵀ + b`.
pub(crate) struct Linear {
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
}

impl Linear {
    fn load(parameters: &mut Parameters, name: &str, output: usize, input: usize) -> Result<Self, ModelError> {
        Ok(Self {
            weight: parameters.get(&format!("{name}.weight"), (output, input), Fill::Normal)?,
            bias: parameters.get(&format!("{name}.bias"), output, Fill::Zeros)?,
        })
    }

    /// `[rows, input]` to `[rows, output]`.
    pub(crate) fn forward(&self, x: &Tensor) -> Result<Tensor, ModelError> {
        Ok(x.matmul(&self.weight.t()?)?.broadcast_add(&self.bias)?)
    }
}

struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    epsilon: f64,
}

impl LayerNorm {
    fn load(parameters: &mut Parameters, name: &str, config: &BertConfig) -> Result<Self, ModelError> {
        Ok(Self {
            weight: parameters.get(&format!("{name}.weight"), config.hidden_size, Fill::Ones)?,
            bias: parameters.get(&format!("{name}.bias"), config.hidden_size, Fill::Zeros)?,
            epsilon: config.layer_norm_eps,
        })
    }

    fn forward(&self, x: &Tensor, mode: &Mode<'_>) -> Result<Tensor, ModelError> {
        Ok(match mode {
            Mode::Serve => candle_nn::ops::layer_norm(&x.contiguous()?, &self.weight, &self.bias, self.epsilon as f32)?,
            Mode::Train(_) => {
                let centred = x.broadcast_sub(&x.mean_keepdim(D::Minus1)?)?;
                let variance = centred.sqr()?.mean_keepdim(D::Minus1)?;
                centred
                    .broadcast_div(&(variance + self.epsilon)?.sqrt()?)?
                    .broadcast_mul(&self.weight)?
                    .broadcast_add(&self.bias)?
            }
        })
    }
}

struct Layer {
    query: Linear,
    key: Linear,
    value: Linear,
    /// Query, key and value in one product: made once for serving, where weights do not change.
    fused: Option<Linear>,
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
}

impl Layer {
    fn load(parameters: &mut Parameters, name: &str, config: &BertConfig, fuse: bool) -> Result<Self, ModelError> {
        let hidden = config.hidden_size;
        let query = Linear::load(parameters, &format!("{name}.attention.self.query"), hidden, hidden)?;
        let key = Linear::load(parameters, &format!("{name}.attention.self.key"), hidden, hidden)?;
        let value = Linear::load(parameters, &format!("{name}.attention.self.value"), hidden, hidden)?;
        let fused = fuse
            .then(|| {
                Ok::<_, ModelError>(Linear {
                    weight: Tensor::cat(&[&query.weight, &key.weight, &value.weight], 0)?,
                    bias: Tensor::cat(&[&query.bias, &key.bias, &value.bias], 0)?,
                })
            })
            .transpose()?;
        Ok(Self {
            query,
            key,
            value,
            fused,
            attention_output: Linear::load(parameters, &format!("{name}.attention.output.dense"), hidden, hidden)?,
            attention_norm: LayerNorm::load(parameters, &format!("{name}.attention.output.LayerNorm"), config)?,
            intermediate: Linear::load(
                parameters,
                &format!("{name}.intermediate.dense"),
                config.intermediate_size,
                hidden,
            )?,
            output: Linear::load(parameters, &format!("{name}.output.dense"), hidden, config.intermediate_size)?,
            output_norm: LayerNorm::load(parameters, &format!("{name}.output.LayerNorm"), config)?,
        })
    }

    /// `x` is `[batch * length, hidden]`; `bias` is `[batch, 1, 1, length]`: 0 where a token is, very negative on padding.
    fn forward(
        &self,
        x: &Tensor,
        bias: &Tensor,
        (batch, length): (usize, usize),
        config: &BertConfig,
        mode: &mut Mode<'_>,
    ) -> Result<Tensor, ModelError> {
        let hidden = config.hidden_size;
        let heads = config.num_attention_heads;
        let split = |t: Tensor| -> Result<Tensor, ModelError> {
            Ok(t.reshape((batch, length, heads, hidden / heads))?.transpose(1, 2)?.contiguous()?)
        };
        let (query, key, value) = match &self.fused {
            Some(fused) => {
                let all = fused.forward(x)?;
                (all.narrow(1, 0, hidden)?, all.narrow(1, hidden, hidden)?, all.narrow(1, 2 * hidden, hidden)?)
            }
            None => (self.query.forward(x)?, self.key.forward(x)?, self.value.forward(x)?),
        };
        let (query, key, value) = (split(query)?, split(key)?, split(value)?);
        let scale = 1.0 / ((hidden / heads) as f64).sqrt();
        let scores = ((query * scale)?.matmul(&key.t()?)?).broadcast_add(bias)?;
        let probabilities = match mode {
            Mode::Serve => candle_nn::ops::softmax_last_dim(&scores)?,
            Mode::Train(_) => candle_nn::ops::softmax(&scores, D::Minus1)?,
        };
        let probabilities = mode.dropout(&probabilities, config.hidden_dropout_prob)?;
        let context = probabilities.matmul(&value)?.transpose(1, 2)?.contiguous()?.reshape((batch * length, hidden))?;

        let attended = mode.dropout(&self.attention_output.forward(&context)?, config.hidden_dropout_prob)?;
        let x = self.attention_norm.forward(&(attended + x)?, mode)?;
        let inner = self.intermediate.forward(&x)?;
        let inner = match config.hidden_act {
            HiddenAct::Gelu => inner.gelu_erf()?,
            HiddenAct::GeluApproximate => inner.gelu()?,
            HiddenAct::Relu => inner.relu()?,
        };
        let inner = mode.dropout(&self.output.forward(&inner)?, config.hidden_dropout_prob)?;
        self.output_norm.forward(&(inner + x)?, mode)
    }
}

/// The encoder: token, position and segment embeddings, then the layers.
pub struct Encoder {
    words: Tensor,
    positions: Tensor,
    segments: Tensor,
    norm: LayerNorm,
    layers: Vec<Layer>,
    config: BertConfig,
}

impl Encoder {
    /// Takes the weights by their Hugging Face names, without the `bert.` prefix.
    ///
    /// # Errors
    /// When the configuration contradicts itself or a tensor cannot be made.
    pub fn load(parameters: &mut Parameters, config: &BertConfig, fuse: bool) -> Result<Self, ModelError> {
        if config.num_attention_heads == 0 || !config.hidden_size.is_multiple_of(config.num_attention_heads) {
            return Err(ModelError::Config(format!(
                "hidden_size {} is not a multiple of num_attention_heads {}",
                config.hidden_size, config.num_attention_heads
            )));
        }
        let hidden = config.hidden_size;
        Ok(Self {
            words: parameters.get("embeddings.word_embeddings.weight", (config.vocab_size, hidden), Fill::Normal)?,
            positions: parameters.get(
                "embeddings.position_embeddings.weight",
                (config.max_position_embeddings, hidden),
                Fill::Normal,
            )?,
            segments: parameters.get(
                "embeddings.token_type_embeddings.weight",
                (config.type_vocab_size, hidden),
                Fill::Normal,
            )?,
            norm: LayerNorm::load(parameters, "embeddings.LayerNorm", config)?,
            layers: (0..config.num_hidden_layers)
                .map(|index| Layer::load(parameters, &format!("encoder.layer.{index}"), config, fuse))
                .collect::<Result<_, _>>()?,
            config: config.clone(),
        })
    }

    /// The configuration that the weights were taken with.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// Hidden states `[batch, length, hidden]` of the embeddings and after every layer, so `layers + 1` of them.
    ///
    /// # Errors
    /// When a tensor operation fails, for example on a token id outside the vocabulary.
    pub fn hidden_states(&self, batch: &Batch, mode: &mut Mode<'_>) -> Result<Vec<Tensor>, ModelError> {
        let (size, length) = batch.input_ids.dims2()?;
        let hidden = self.config.hidden_size;
        let positions = self.positions.narrow(0, 0, length)?.broadcast_add(&self.segments.narrow(0, 0, 1)?)?;
        let words = self.words.index_select(&batch.input_ids.flatten_all()?, 0)?.reshape((size, length, hidden))?;
        let x = words.broadcast_add(&positions)?.reshape((size * length, hidden))?;
        let x = self.norm.forward(&x, mode)?;
        let mut x = mode.dropout(&x, self.config.hidden_dropout_prob)?;
        // exp(-1e9) is 0 in every precision that is used, and a row always has its first token.
        let bias = ((&batch.attention_mask - 1.0)? * 1e9)?.reshape((size, 1, 1, length))?;
        let mut states = vec![x.reshape((size, length, hidden))?];
        for layer in &self.layers {
            x = layer.forward(&x, &bias, (size, length), &self.config, mode)?;
            states.push(x.reshape((size, length, hidden))?);
        }
        Ok(states)
    }

    /// The last hidden states `[batch, length, hidden]`.
    ///
    /// # Errors
    /// As [`Encoder::hidden_states`].
    pub fn forward(&self, batch: &Batch, mode: &mut Mode<'_>) -> Result<Tensor, ModelError> {
        let mut states = self.hidden_states(batch, mode)?;
        Ok(states.swap_remove(states.len() - 1))
    }
}
