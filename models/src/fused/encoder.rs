//! The BERT encoder forward and backward over texts that lie one after the other without padding.

use std::ops::Range;

use super::{
    attention,
    product::{Linear, Weight, add_weight_gradient, input_gradient},
    rows::{
        self, Activation, Dropout, Norm, activation_backward, activation_forward, activation_in_place, add_column_sums,
        dropout_forward, norm_backward, norm_forward,
    },
};

/// One layer's weights.
pub(crate) struct LayerWeights<'a> {
    /// Query, key and value in one product.
    pub(crate) qkv: Linear<'a>,
    pub(crate) attention_output: Linear<'a>,
    pub(crate) attention_norm: Norm<'a>,
    pub(crate) intermediate: Linear<'a>,
    pub(crate) output: Linear<'a>,
    pub(crate) output_norm: Norm<'a>,
}

/// All weights of an encoder, wherever they are kept.
pub(crate) struct EncoderWeights<'a> {
    pub(crate) words: &'a [f32],
    pub(crate) positions: &'a [f32],
    pub(crate) segments: &'a [f32],
    pub(crate) norm: Norm<'a>,
    pub(crate) layers: Vec<LayerWeights<'a>>,
    pub(crate) shape: attention::Shape,
    pub(crate) activation: Activation,
}

/// Token ids of several texts, one after the other.
#[derive(Clone, Copy)]
pub(crate) struct Tokens<'a> {
    pub(crate) ids: &'a [u32],
    pub(crate) segments: &'a [u32],
    pub(crate) texts: &'a [Range<usize>],
}

/// How much is dropped at random in a training step, and from which seed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Noise {
    pub(crate) dropout: f64,
    pub(crate) seed: u64,
}

impl Noise {
    fn at(&self, layer: usize, place: u32) -> Dropout {
        Dropout::new(self.dropout, self.seed, layer as u32 * 4 + place)
    }
}

/// Buffers that steps hand on to each other, so that memory is asked for once.
#[derive(Default)]
pub(crate) struct Buffers(Vec<Vec<f32>>);

impl Buffers {
    /// A buffer of `len` numbers, of any content.
    fn take(&mut self, len: usize) -> Vec<f32> {
        let fits = self.0.iter().position(|buffer| buffer.capacity() >= len);
        let mut buffer = fits.map_or_else(Vec::new, |index| self.0.swap_remove(index));
        buffer.resize(len, 0.0);
        buffer
    }

    fn give(&mut self, buffer: Vec<f32>) {
        if buffer.capacity() > 0 {
            self.0.push(buffer);
        }
    }
}

struct LayerTape {
    x: Vec<f32>,
    qkv: Vec<f32>,
    probabilities: Vec<f32>,
    context: Vec<f32>,
    attention_normal: Vec<f32>,
    attention_inverse: Vec<f32>,
    attended: Vec<f32>,
    inner: Vec<f32>,
    activated: Vec<f32>,
    output_normal: Vec<f32>,
    output_inverse: Vec<f32>,
}

/// What the backward pass needs of a forward pass.
pub(crate) struct EncoderTape {
    normal: Vec<f32>,
    inverse: Vec<f32>,
    layers: Vec<LayerTape>,
    noise: Noise,
}

/// Gradients of one layer; query, key and value lie one after the other.
#[derive(Default)]
pub(crate) struct LayerGradients {
    pub(crate) qkv: (Vec<f32>, Vec<f32>),
    pub(crate) attention_output: (Vec<f32>, Vec<f32>),
    pub(crate) attention_norm: (Vec<f32>, Vec<f32>),
    pub(crate) intermediate: (Vec<f32>, Vec<f32>),
    pub(crate) output: (Vec<f32>, Vec<f32>),
    pub(crate) output_norm: (Vec<f32>, Vec<f32>),
}

/// Gradients of an encoder.
#[derive(Default)]
pub(crate) struct EncoderGradients {
    /// `[vocabulary, hidden]`; only the rows in `touched` are not 0.
    pub(crate) words: Vec<f32>,
    /// Rows of `words` that a step has written to, each once.
    pub(crate) touched: Vec<u32>,
    pub(crate) is_touched: Vec<bool>,
    pub(crate) positions: Vec<f32>,
    pub(crate) segments: Vec<f32>,
    pub(crate) norm: (Vec<f32>, Vec<f32>),
    pub(crate) layers: Vec<LayerGradients>,
}

impl EncoderGradients {
    /// Zeros in the shape of `weights`.
    pub(crate) fn new(weights: &EncoderWeights<'_>) -> Self {
        let hidden = weights.shape.hidden;
        let linear = |layer: &Linear<'_>| (vec![0.0; layer.bias.len() * layer.input], vec![0.0; layer.bias.len()]);
        let norm = || (vec![0.0; hidden], vec![0.0; hidden]);
        Self {
            words: vec![0.0; weights.words.len()],
            touched: Vec::new(),
            is_touched: vec![false; weights.words.len() / hidden],
            positions: vec![0.0; weights.positions.len()],
            segments: vec![0.0; weights.segments.len()],
            norm: norm(),
            layers: weights
                .layers
                .iter()
                .map(|layer| LayerGradients {
                    qkv: linear(&layer.qkv),
                    attention_output: linear(&layer.attention_output),
                    attention_norm: norm(),
                    intermediate: linear(&layer.intermediate),
                    output: linear(&layer.output),
                    output_norm: norm(),
                })
                .collect(),
        }
    }

    /// Marks a row of the word table as written to.
    pub(crate) fn touch(&mut self, id: u32) {
        if !std::mem::replace(&mut self.is_touched[id as usize], true) {
            self.touched.push(id);
        }
    }

    /// Everything but the word table, each with its Hugging Face name. Query, key and value come apart.
    pub(crate) fn named(&mut self, mut each: impl FnMut(&str, &mut [f32])) {
        each("embeddings.position_embeddings.weight", &mut self.positions);
        each("embeddings.token_type_embeddings.weight", &mut self.segments);
        let mut pair = |name: &str, (weight, bias): &mut (Vec<f32>, Vec<f32>)| {
            each(&format!("{name}.weight"), weight);
            each(&format!("{name}.bias"), bias);
        };
        pair("embeddings.LayerNorm", &mut self.norm);
        for (index, layer) in self.layers.iter_mut().enumerate() {
            let name = |part: &str| format!("encoder.layer.{index}.{part}");
            pair(&name("attention.output.dense"), &mut layer.attention_output);
            pair(&name("attention.output.LayerNorm"), &mut layer.attention_norm);
            pair(&name("intermediate.dense"), &mut layer.intermediate);
            pair(&name("output.dense"), &mut layer.output);
            pair(&name("output.LayerNorm"), &mut layer.output_norm);
        }
        for (index, layer) in self.layers.iter_mut().enumerate() {
            let (weight, bias) = &mut layer.qkv;
            let (rows, width) = (weight.len() / 3, bias.len() / 3);
            for (part, (weight, bias)) in
                ["query", "key", "value"].iter().zip(weight.chunks_mut(rows).zip(bias.chunks_mut(width)))
            {
                each(&format!("encoder.layer.{index}.attention.self.{part}.weight"), weight);
                each(&format!("encoder.layer.{index}.attention.self.{part}.bias"), bias);
            }
        }
    }

    /// Sets everything back to 0, the word table only where it was written to.
    pub(crate) fn clear(&mut self, hidden: usize) {
        for &id in &self.touched {
            self.words[id as usize * hidden..][..hidden].fill(0.0);
            self.is_touched[id as usize] = false;
        }
        self.touched.clear();
        self.named(|_, values| values.fill(0.0));
    }
}

impl EncoderWeights<'_> {
    /// Sums of word, position and segment embeddings `[tokens, hidden]`.
    fn embed(&self, tokens: &Tokens<'_>, out: &mut [f32]) {
        let hidden = self.shape.hidden;
        for text in tokens.texts {
            for (position, token) in text.clone().enumerate() {
                let out = &mut out[token * hidden..][..hidden];
                out.copy_from_slice(&self.words[tokens.ids[token] as usize * hidden..][..hidden]);
                rows::add(out, &self.positions[position * hidden..][..hidden]);
                rows::add(out, &self.segments[tokens.segments[token] as usize * hidden..][..hidden]);
            }
        }
    }

    /// Last hidden states `[tokens, hidden]`, without what a backward pass needs.
    pub(crate) fn forward(&self, tokens: Tokens<'_>, buffers: &mut Buffers) -> Vec<f32> {
        let (count, hidden) = (tokens.ids.len(), self.shape.hidden);
        let off = Dropout::new(0.0, 0, 0);
        let mut summed = buffers.take(count * hidden);
        self.embed(&tokens, &mut summed);
        let mut x = buffers.take(count * hidden);
        norm_forward(self.norm, &summed, None, off, &mut x, None);
        let mut attended = buffers.take(count * hidden);
        let mut qkv = buffers.take(count * 3 * hidden);
        let widest = self.layers.iter().map(|layer| layer.intermediate.bias.len()).max().unwrap_or(0);
        let mut inner = buffers.take(count * widest);
        for layer in &self.layers {
            layer.qkv.forward(&x, &mut qkv);
            // `attended` holds the context until the norm writes over it.
            attention::forward(self.shape, tokens.texts, &qkv, off, &mut attended, None);
            layer.attention_output.forward(&attended, &mut summed);
            norm_forward(layer.attention_norm, &summed, Some(&x), off, &mut attended, None);
            layer.intermediate.forward(&attended, &mut inner);
            activation_in_place(self.activation, &mut inner);
            layer.output.forward(&inner, &mut summed);
            norm_forward(layer.output_norm, &summed, Some(&attended), off, &mut x, None);
        }
        for buffer in [summed, attended, qkv, inner] {
            buffers.give(buffer);
        }
        x
    }

    /// Last hidden states `[tokens, hidden]` and what the backward pass needs.
    pub(crate) fn forward_train(
        &self,
        tokens: Tokens<'_>,
        noise: Noise,
        buffers: &mut Buffers,
    ) -> (Vec<f32>, EncoderTape) {
        let (count, hidden) = (tokens.ids.len(), self.shape.hidden);
        let kept: usize = tokens.texts.iter().map(|text| self.shape.probabilities(text.len())).sum();
        let off = Dropout::new(0.0, 0, 0);
        let mut summed = buffers.take(count * hidden);
        self.embed(&tokens, &mut summed);
        let mut x = buffers.take(count * hidden);
        let mut normal = buffers.take(count * hidden);
        let mut inverse = buffers.take(count);
        norm_forward(self.norm, &summed, None, off, &mut x, Some((&mut normal, &mut inverse)));
        if noise.dropout > 0.0 {
            let mut dropped = buffers.take(count * hidden);
            dropout_forward(&x, noise.at(self.layers.len(), 0), &mut dropped);
            buffers.give(std::mem::replace(&mut x, dropped));
        }
        let mut layers = Vec::with_capacity(self.layers.len());
        for (index, layer) in self.layers.iter().enumerate() {
            let width = layer.intermediate.bias.len();
            let mut tape = LayerTape {
                x,
                qkv: buffers.take(count * 3 * hidden),
                probabilities: buffers.take(kept),
                context: buffers.take(count * hidden),
                attention_normal: buffers.take(count * hidden),
                attention_inverse: buffers.take(count),
                attended: buffers.take(count * hidden),
                inner: buffers.take(count * width),
                activated: buffers.take(count * width),
                output_normal: buffers.take(count * hidden),
                output_inverse: buffers.take(count),
            };
            layer.qkv.forward(&tape.x, &mut tape.qkv);
            attention::forward(
                self.shape,
                tokens.texts,
                &tape.qkv,
                noise.at(index, 0),
                &mut tape.context,
                Some(&mut tape.probabilities),
            );
            layer.attention_output.forward(&tape.context, &mut summed);
            norm_forward(
                layer.attention_norm,
                &summed,
                Some(&tape.x),
                noise.at(index, 1),
                &mut tape.attended,
                Some((&mut tape.attention_normal, &mut tape.attention_inverse)),
            );
            layer.intermediate.forward(&tape.attended, &mut tape.inner);
            activation_forward(self.activation, &tape.inner, &mut tape.activated);
            layer.output.forward(&tape.activated, &mut summed);
            x = buffers.take(count * hidden);
            norm_forward(
                layer.output_norm,
                &summed,
                Some(&tape.attended),
                noise.at(index, 2),
                &mut x,
                Some((&mut tape.output_normal, &mut tape.output_inverse)),
            );
            layers.push(tape);
        }
        buffers.give(summed);
        (x, EncoderTape { normal, inverse, layers, noise })
    }

    /// Adds to `gradients` what follows from `gradient [tokens, hidden]`, the gradient of the last hidden states.
    pub(crate) fn backward(
        &self,
        tokens: Tokens<'_>,
        tape: EncoderTape,
        mut gradient: Vec<f32>,
        gradients: &mut EncoderGradients,
        buffers: &mut Buffers,
    ) {
        let (count, hidden) = (tokens.ids.len(), self.shape.hidden);
        let EncoderTape { normal, inverse, layers, noise } = tape;
        let mut dropped = buffers.take(count * hidden);
        let mut context = buffers.take(count * hidden);
        let mut qkv = buffers.take(count * 3 * hidden);
        for (index, ((layer, tape), sums)) in
            self.layers.iter().zip(layers).zip(&mut gradients.layers).enumerate().rev()
        {
            let norm = &mut sums.output_norm;
            let (normal, inverse) = (&tape.output_normal, &tape.output_inverse);
            norm_backward(layer.output_norm.weight, normal, inverse, &mut gradient, &mut norm.0, &mut norm.1);
            let upstream = undrop(&gradient, noise.at(index, 2), &mut dropped);
            let mut inner = buffers.take(tape.inner.len());
            linear_backward(&layer.output, upstream, &tape.activated, &mut sums.output, &mut inner, false);
            activation_backward(self.activation, &tape.inner, &mut inner);
            linear_backward(&layer.intermediate, &inner, &tape.attended, &mut sums.intermediate, &mut gradient, true);

            let norm = &mut sums.attention_norm;
            let (normal, inverse) = (&tape.attention_normal, &tape.attention_inverse);
            norm_backward(layer.attention_norm.weight, normal, inverse, &mut gradient, &mut norm.0, &mut norm.1);
            let upstream = undrop(&gradient, noise.at(index, 1), &mut dropped);
            linear_backward(
                &layer.attention_output,
                upstream,
                &tape.context,
                &mut sums.attention_output,
                &mut context,
                false,
            );
            attention::backward(
                self.shape,
                tokens.texts,
                &tape.qkv,
                &tape.probabilities,
                noise.at(index, 0),
                &context,
                &mut qkv,
            );
            linear_backward(&layer.qkv, &qkv, &tape.x, &mut sums.qkv, &mut gradient, true);
            for buffer in [
                inner,
                tape.x,
                tape.qkv,
                tape.probabilities,
                tape.context,
                tape.attention_normal,
                tape.attention_inverse,
                tape.attended,
                tape.inner,
                tape.activated,
                tape.output_normal,
                tape.output_inverse,
            ] {
                buffers.give(buffer);
            }
        }
        if noise.dropout > 0.0 {
            dropout_forward(&gradient, noise.at(self.layers.len(), 0), &mut dropped);
            std::mem::swap(&mut gradient, &mut dropped);
        }
        let norm = &mut gradients.norm;
        norm_backward(self.norm.weight, &normal, &inverse, &mut gradient, &mut norm.0, &mut norm.1);
        for text in tokens.texts {
            for (position, token) in text.clone().enumerate() {
                let row = &gradient[token * hidden..][..hidden];
                let (id, segment) = (tokens.ids[token], tokens.segments[token] as usize);
                gradients.touch(id);
                rows::add(&mut gradients.words[id as usize * hidden..][..hidden], row);
                rows::add(&mut gradients.positions[position * hidden..][..hidden], row);
                rows::add(&mut gradients.segments[segment * hidden..][..hidden], row);
            }
        }
        for buffer in [gradient, dropped, context, qkv, normal, inverse] {
            buffers.give(buffer);
        }
    }
}

/// The gradient before dropout.
fn undrop<'a>(gradient: &'a [f32], dropout: Dropout, buffer: &'a mut [f32]) -> &'a [f32] {
    if dropout.is_off() {
        return gradient;
    }
    dropout_forward(gradient, dropout, buffer);
    buffer
}

/// Adds the gradients of weight and bias to `sums`; writes (or adds) that of the input to `out`.
pub(crate) fn linear_backward(
    layer: &Linear<'_>,
    gradient: &[f32],
    x: &[f32],
    sums: &mut (Vec<f32>, Vec<f32>),
    out: &mut [f32],
    add: bool,
) {
    add_weight_gradient(gradient, x, layer.input, &mut sums.0);
    add_column_sums(&mut sums.1, gradient);
    let Weight::Plain(weight) = layer.weight else {
        unreachable!("only a model that serves has packed weights, and it has no backward pass")
    };
    input_gradient(gradient, weight, layer.input, add, out);
}
