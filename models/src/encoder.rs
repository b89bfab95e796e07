//! The BERT encoder (Devlin et al. 2018, <https://arxiv.org/abs/1810.04805>), differentiable in training and fused when
//! serving: one definition, one set of weights, equal outputs.
//!
//! [`Encoder::hidden_states`] says in plain tensor operations what the encoder is, on any device. On the CPU the same weights
//! run through the fused operations of `crate::fused`, in training and in serving.
//!
//! candle-transformers' `BertModel` cannot be fine-tuned: its layer norm and its softmax take fused paths that have no
//! backward pass and cut the gradient silently, and its dropout does nothing. It stays the reference of a parity test.

use std::{
    ops::Deref,
    sync::{LazyLock, Mutex},
};

use candle_core::{CpuStorage, D, Device, Storage, Tensor};
pub use candle_transformers::models::bert::{Config as BertConfig, HiddenAct};
use parking_lot::RwLockReadGuard;
use rten_gemm::PackedBMatrix;

use crate::{
    Batch, ModelError, Parameters, Seeded,
    fused::{
        attention::Shape,
        encoder::{Buffers, EncoderWeights, LayerWeights, Tokens},
        product::{self, Int8Weight, Weight},
        rows::{Activation, Norm},
    },
    parameters::Fill,
};

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

pub(crate) struct LayerNorm {
    pub(crate) weight: Tensor,
    pub(crate) bias: Tensor,
    pub(crate) epsilon: f64,
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
    attention_output: Linear,
    attention_norm: LayerNorm,
    intermediate: Linear,
    output: Linear,
    output_norm: LayerNorm,
}

impl Layer {
    fn load(parameters: &mut Parameters, name: &str, config: &BertConfig) -> Result<Self, ModelError> {
        let hidden = config.hidden_size;
        let query = Linear::load(parameters, &format!("{name}.attention.self.query"), hidden, hidden)?;
        let key = Linear::load(parameters, &format!("{name}.attention.self.key"), hidden, hidden)?;
        let value = Linear::load(parameters, &format!("{name}.attention.self.value"), hidden, hidden)?;
        Ok(Self {
            query,
            key,
            value,
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
        let (query, key, value) = (self.query.forward(x)?, self.key.forward(x)?, self.value.forward(x)?);
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
    /// Made once for serving on the CPU, where weights do not change.
    packed: Option<Packed>,
}

/// Up to so many numbers of hidden state, handing work to a second thread costs more than it saves: a short text or two.
const SMALL: usize = 64 * 256;

/// A pool of one thread, for batches that are [`SMALL`]; none where no thread can be had.
static ONE_THREAD: LazyLock<Option<rayon::ThreadPool>> =
    LazyLock::new(|| rayon::ThreadPoolBuilder::new().num_threads(1).thread_name(|_| "short texts".into()).build().ok());

/// The linear weights of the layers, packed for serving; biases of query, key and value in one.
struct Packed {
    layers: Vec<PackedLayer>,
    buffers: Mutex<Buffers>,
}

struct PackedLayer {
    qkv: (PackedWeight, Vec<f32>),
    attention_output: PackedWeight,
    intermediate: PackedWeight,
    output: PackedWeight,
}

pub(crate) enum PackedWeight {
    F32(PackedBMatrix<f32>),
    Int8(Int8Weight),
}

impl PackedWeight {
    fn new(weight: &[f32], input: usize, precision: ServingPrecision) -> Self {
        let output = weight.len() / input;
        match precision {
            ServingPrecision::F32 => Self::F32(product::pack(weight, output, input)),
            ServingPrecision::Int8 => Self::Int8(Int8Weight::new(weight, output, input)),
        }
    }

    fn weight(&self) -> Weight<'_> {
        match self {
            Self::F32(weight) => Weight::Packed(weight),
            Self::Int8(weight) => Weight::Int8(weight),
        }
    }
}

/// Number format of the linear layers while serving on the CPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServingPrecision {
    /// 32-bit floats.
    #[default]
    F32,
    /// 8-bit weights with one scale an output, and activations quantized row by row.
    Int8,
}

/// The numbers of a tensor on the CPU, where they lie.
pub(crate) struct View<'a> {
    storage: RwLockReadGuard<'a, Storage>,
    start: usize,
    len: usize,
}

impl<'a> View<'a> {
    pub(crate) fn new(tensor: &'a Tensor) -> Result<Self, ModelError> {
        let tensor_len = tensor.elem_count();
        let (storage, layout) = tensor.storage_and_layout();
        let view = Self { storage, start: layout.start_offset(), len: tensor_len };
        match &*view.storage {
            Storage::Cpu(CpuStorage::F32(_)) if layout.is_contiguous() => Ok(view),
            _ => Err(ModelError::Config("the fused operations need contiguous 32-bit weights on the CPU".into())),
        }
    }
}

impl Deref for View<'_> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.start..self.start + self.len],
            _ => &[],
        }
    }
}

pub(crate) struct LinearView<'a> {
    weight: View<'a>,
    bias: View<'a>,
}

impl LinearView<'_> {
    pub(crate) fn with<'b>(&'b self, weight: Option<&'b PackedWeight>) -> product::Linear<'b> {
        let input = self.weight.len() / self.bias.len().max(1);
        let weight = weight.map_or(Weight::Plain(&self.weight), PackedWeight::weight);
        product::Linear { weight, bias: &self.bias, input }
    }
}

impl Linear {
    pub(crate) fn view(&self) -> Result<LinearView<'_>, ModelError> {
        Ok(LinearView { weight: View::new(&self.weight)?, bias: View::new(&self.bias)? })
    }

    /// `out [rows, output] = x [rows, input] Wᵀ + b` on the CPU.
    pub(crate) fn forward_rows(&self, x: &[f32], out: &mut [f32]) -> Result<(), ModelError> {
        self.view()?.with(None).forward(x, out);
        Ok(())
    }
}

pub(crate) struct NormView<'a> {
    weight: View<'a>,
    bias: View<'a>,
    epsilon: f32,
}

impl NormView<'_> {
    pub(crate) fn norm(&self) -> Norm<'_> {
        Norm { weight: &self.weight, bias: &self.bias, epsilon: self.epsilon }
    }
}

impl LayerNorm {
    pub(crate) fn view(&self) -> Result<NormView<'_>, ModelError> {
        Ok(NormView { weight: View::new(&self.weight)?, bias: View::new(&self.bias)?, epsilon: self.epsilon as f32 })
    }
}

/// Query, key and value of a layer one after the other: weights `[3 hidden, hidden]` and biases `[3 hidden]`.
fn joined(layer: &Layer) -> Result<(Vec<f32>, Vec<f32>), ModelError> {
    let (mut weight, mut bias) = (Vec::new(), Vec::new());
    for part in [&layer.query, &layer.key, &layer.value] {
        let view = part.view()?;
        weight.extend_from_slice(&view.weight);
        bias.extend_from_slice(&view.bias);
    }
    Ok((weight, bias))
}

impl Encoder {
    /// Takes the weights by their Hugging Face names, without the `bert.` prefix.
    ///
    /// # Errors
    /// When the configuration contradicts itself or a tensor cannot be made.
    pub fn load(parameters: &mut Parameters, config: &BertConfig) -> Result<Self, ModelError> {
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
                .map(|index| Layer::load(parameters, &format!("encoder.layer.{index}"), config))
                .collect::<Result<_, _>>()?,
            config: config.clone(),
            packed: None,
        })
    }

    /// Packs the weights of the layers for serving on the CPU; later changes of the weights are not seen any more.
    ///
    /// # Errors
    /// When a weight is not on the CPU.
    pub(crate) fn pack(&mut self, precision: ServingPrecision) -> Result<(), ModelError> {
        let hidden = self.config.hidden_size;
        let layers = self
            .layers
            .iter()
            .map(|layer| {
                let (weight, bias) = joined(layer)?;
                let pack = |layer: &Linear, input: usize| {
                    Ok::<_, ModelError>(PackedWeight::new(&View::new(&layer.weight)?, input, precision))
                };
                Ok(PackedLayer {
                    qkv: (PackedWeight::new(&weight, hidden, precision), bias),
                    attention_output: pack(&layer.attention_output, hidden)?,
                    intermediate: pack(&layer.intermediate, hidden)?,
                    output: pack(&layer.output, self.config.intermediate_size)?,
                })
            })
            .collect::<Result<_, ModelError>>()?;
        self.packed = Some(Packed { layers, buffers: Mutex::default() });
        Ok(())
    }

    /// The configuration that the weights were taken with.
    pub fn config(&self) -> &BertConfig {
        &self.config
    }

    /// Hands the weights to fused operations: packed ones where there are, and else as they lie in the variables.
    pub(crate) fn with_weights<R>(&self, work: impl FnOnce(&EncoderWeights<'_>) -> R) -> Result<R, ModelError> {
        let hidden = self.config.hidden_size;
        let (words, positions, segments) =
            (View::new(&self.words)?, View::new(&self.positions)?, View::new(&self.segments)?);
        let norm = self.norm.view()?;
        struct Views<'a> {
            joined: Option<(Vec<f32>, Vec<f32>)>,
            packed: Option<&'a PackedLayer>,
            attention_output: LinearView<'a>,
            attention_norm: NormView<'a>,
            intermediate: LinearView<'a>,
            output: LinearView<'a>,
            output_norm: NormView<'a>,
        }
        let views = self
            .layers
            .iter()
            .enumerate()
            .map(|(index, layer)| {
                let packed = self.packed.as_ref().map(|packed| &packed.layers[index]);
                Ok(Views {
                    joined: if packed.is_none() { Some(joined(layer)?) } else { None },
                    packed,
                    attention_output: layer.attention_output.view()?,
                    attention_norm: layer.attention_norm.view()?,
                    intermediate: layer.intermediate.view()?,
                    output: layer.output.view()?,
                    output_norm: layer.output_norm.view()?,
                })
            })
            .collect::<Result<Vec<_>, ModelError>>()?;
        let layers = views
            .iter()
            .map(|views| {
                let packed = views.packed;
                let (weight, bias) = match (&views.joined, packed) {
                    (Some((weight, bias)), _) => (Weight::Plain(weight), bias),
                    (None, Some(packed)) => (packed.qkv.0.weight(), &packed.qkv.1),
                    (None, None) => unreachable!("weights that are not packed were joined"),
                };
                LayerWeights {
                    qkv: product::Linear { weight, bias, input: hidden },
                    attention_output: views.attention_output.with(packed.map(|packed| &packed.attention_output)),
                    attention_norm: views.attention_norm.norm(),
                    intermediate: views.intermediate.with(packed.map(|packed| &packed.intermediate)),
                    output: views.output.with(packed.map(|packed| &packed.output)),
                    output_norm: views.output_norm.norm(),
                }
            })
            .collect();
        let weights = EncoderWeights {
            words: &words,
            positions: &positions,
            segments: &segments,
            norm: norm.norm(),
            layers,
            shape: Shape { hidden, heads: self.config.num_attention_heads },
            activation: match self.config.hidden_act {
                HiddenAct::Gelu => Activation::Gelu,
                HiddenAct::GeluApproximate => Activation::GeluApproximate,
                HiddenAct::Relu => Activation::Relu,
            },
        };
        Ok(work(&weights))
    }

    /// Checks what the fused operations take for granted.
    pub(crate) fn tokens<'a>(&self, batch: &'a Batch) -> Result<Tokens<'a>, ModelError> {
        let config = &self.config;
        if let Some(id) = batch.ids().iter().find(|&&id| id as usize >= config.vocab_size) {
            return Err(ModelError::Config(format!(
                "token id {id} is outside the vocabulary of {}",
                config.vocab_size
            )));
        }
        if let Some(text) = batch.texts().iter().find(|text| text.len() > config.max_position_embeddings) {
            return Err(ModelError::Config(format!(
                "a text of {} tokens is longer than the {} positions of the model",
                text.len(),
                config.max_position_embeddings
            )));
        }
        if batch.segments().iter().any(|&segment| segment as usize >= config.type_vocab_size) {
            return Err(ModelError::Config(format!(
                "the model knows {} segments, too few for a context",
                config.type_vocab_size
            )));
        }
        Ok(Tokens { ids: batch.ids(), segments: batch.segments(), texts: batch.texts() })
    }

    /// Last hidden states `[tokens, hidden]` of a batch without padding, by the fused operations of the CPU.
    ///
    /// # Errors
    /// When a text does not fit the configuration, or the weights are not on the CPU.
    pub fn forward_fused(&self, batch: &Batch) -> Result<Vec<f32>, ModelError> {
        let tokens = self.tokens(batch)?;
        // One thread serves; a second one that comes meanwhile works with buffers of its own.
        let mut own = Buffers::default();
        let mut shared = self.packed.as_ref().and_then(|packed| packed.buffers.try_lock().ok());
        let buffers = shared.as_deref_mut().unwrap_or(&mut own);
        let mut run = || self.with_weights(|weights| weights.forward(tokens, buffers));
        match &*ONE_THREAD {
            Some(pool) if batch.tokens() * self.config.hidden_size <= SMALL => pool.install(run),
            _ => run(),
        }
    }

    /// Hidden states `[batch, length, hidden]` of the embeddings and after every layer, so `layers + 1` of them, padded to the
    /// longest text, by plain tensor operations.
    ///
    /// # Errors
    /// When a tensor operation fails, for example on a token id outside the vocabulary.
    pub fn hidden_states(&self, batch: &Batch, mode: &mut Mode<'_>) -> Result<Vec<Tensor>, ModelError> {
        let device: &Device = self.words.device();
        let padded = batch.padded(self.config.pad_token_id as u32, device)?;
        let (size, length) = padded.input_ids.dims2()?;
        let hidden = self.config.hidden_size;
        let rows =
            |table: &Tensor, ids: &Tensor| table.index_select(&ids.flatten_all()?, 0)?.reshape((size, length, hidden));
        let words = rows(&self.words, &padded.input_ids)?;
        let segments = rows(&self.segments, &padded.segments)?;
        let x = (words + segments)?.broadcast_add(&self.positions.narrow(0, 0, length)?)?;
        let x = self.norm.forward(&x.reshape((size * length, hidden))?, mode)?;
        let mut x = mode.dropout(&x, self.config.hidden_dropout_prob)?;
        // exp(-1e9) is 0 in every precision that is used, and a row always has its first token.
        let bias = ((&padded.attention_mask - 1.0)? * 1e9)?.reshape((size, 1, 1, length))?;
        let mut states = vec![x.reshape((size, length, hidden))?];
        for layer in &self.layers {
            x = layer.forward(&x, &bias, (size, length), &self.config, mode)?;
            states.push(x.reshape((size, length, hidden))?);
        }
        Ok(states)
    }

    /// The last hidden states `[batch, length, hidden]`, by plain tensor operations.
    ///
    /// # Errors
    /// As [`Encoder::hidden_states`].
    pub fn forward(&self, batch: &Batch, mode: &mut Mode<'_>) -> Result<Tensor, ModelError> {
        let mut states = self.hidden_states(batch, mode)?;
        Ok(states.swap_remove(states.len() - 1))
    }
}
