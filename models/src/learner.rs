//! Forward passes that can be learnt from, and their gradients: fused operations on the CPU, plain ones elsewhere.

use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var, backprop::GradStore};

use crate::{
    Batch, Forward, Mode, ModelError, MultiTaskModel, Seeded,
    fused::encoder::{Buffers, EncoderGradients, EncoderTape, Noise},
    model::pool,
};

/// Name of the one variable whose gradient is mostly empty.
pub const WORDS: &str = "embeddings.word_embeddings.weight";

/// The gradients of one step.
#[derive(Default)]
pub struct Gradients {
    named: BTreeMap<String, Vec<f32>>,
    encoder: Option<EncoderGradients>,
}

/// One gradient as an optimiser reads it.
pub enum Gradient<'a> {
    /// Of every number of the variable.
    Dense(&'a mut [f32]),
    /// Of some rows of a table `[rows, width]`, given whole; the others are 0.
    Rows {
        /// The table.
        values: &'a mut [f32],
        /// The rows that are not 0, each once, in order.
        rows: &'a [u32],
    },
}

impl Gradients {
    /// Visits every gradient with the name of its variable, always in the same order.
    pub fn each(&mut self, mut visit: impl FnMut(&str, Gradient<'_>)) {
        if let Some(encoder) = &mut self.encoder {
            encoder.touched.sort_unstable();
            visit(WORDS, Gradient::Rows { values: &mut encoder.words, rows: &encoder.touched });
            encoder.named(|name, values| visit(name, Gradient::Dense(values)));
        }
        for (name, values) in &mut self.named {
            visit(name, Gradient::Dense(values));
        }
    }

    /// The gradients of a loss that plain tensor operations made.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn of(loss: &Tensor, variables: &BTreeMap<String, Var>) -> Result<Self, ModelError> {
        let mut gradients = Self::default();
        gradients.take_from(&loss.backward()?, variables)?;
        Ok(gradients)
    }

    /// Adds to the gradient of a variable outside the encoder.
    pub(crate) fn add(&mut self, name: &str, values: &[f32]) {
        match self.named.get_mut(name) {
            Some(sum) => crate::fused::rows::add(sum, values),
            None => {
                self.named.insert(name.to_owned(), values.to_vec());
            }
        }
    }

    /// The gradients of the encoder, where fused operations make them.
    pub(crate) fn encoder(&mut self) -> Option<&mut EncoderGradients> {
        self.encoder.as_mut()
    }

    fn clear(&mut self, hidden: usize) {
        self.named.values_mut().for_each(|values| values.fill(0.0));
        if let Some(encoder) = &mut self.encoder {
            encoder.clear(hidden);
        }
    }

    fn take_from(&mut self, store: &GradStore, variables: &BTreeMap<String, Var>) -> Result<(), ModelError> {
        for (name, variable) in variables {
            if let Some(gradient) = store.get(variable) {
                let gradient = gradient.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<f32>()?;
                self.add(name, &gradient);
            }
        }
        Ok(())
    }
}

/// One forward pass of a step.
pub struct Pass {
    /// What the model says; losses are made of it.
    pub output: Forward,
    fused: Option<FusedPass>,
}

struct FusedPass {
    batch: Batch,
    states: Vec<f32>,
    tape: EncoderTape,
    pooled: Var,
}

/// Runs a model forward and backward, and keeps the work space from one step to the next.
pub struct Learner<'a> {
    model: &'a MultiTaskModel,
    buffers: Buffers,
    gradients: Gradients,
}

impl<'a> Learner<'a> {
    /// A learner of a trainable model.
    ///
    /// # Errors
    /// When the weights cannot be read.
    pub fn new(model: &'a MultiTaskModel) -> Result<Self, ModelError> {
        let encoder =
            if model.device().is_cpu() { Some(model.encoder().with_weights(EncoderGradients::new)?) } else { None };
        Ok(Self { model, buffers: Buffers::default(), gradients: Gradients { encoder, ..Gradients::default() } })
    }

    /// One forward pass with dropout drawn from `seed`.
    ///
    /// # Errors
    /// When a text does not fit the model or a tensor operation fails.
    pub fn forward(&mut self, batch: Batch, seed: u64) -> Result<Pass, ModelError> {
        let mut generator = Seeded::new(seed, 0);
        if !self.model.device().is_cpu() {
            let output = self.model.forward(&batch, Mode::Train(&mut generator))?;
            return Ok(Pass { output, fused: None });
        }
        let (states, tape) = self.states(&batch, seed)?;
        let (texts, hidden) = (batch.len(), states.len() / batch.tokens().max(1));
        // The losses see the pooled texts as a variable; their gradient goes on through the tape.
        let pooled = Var::from_vec(pool(&batch, &states), (texts, hidden), self.model.device())?;
        let output = self.model.read(None, pooled.as_tensor().clone(), Mode::Train(&mut generator))?;
        Ok(Pass { output, fused: Some(FusedPass { batch, states, tape, pooled }) })
    }

    pub(crate) fn states(&mut self, batch: &Batch, seed: u64) -> Result<(Vec<f32>, EncoderTape), ModelError> {
        let encoder = self.model.encoder();
        let tokens = encoder.tokens(batch)?;
        let noise = Noise { dropout: encoder.config().hidden_dropout_prob, seed };
        encoder.with_weights(|weights| weights.forward_train(tokens, noise, &mut self.buffers))
    }

    /// Adds what follows from the gradient of the last hidden states `[tokens, hidden]`.
    pub(crate) fn states_backward(
        &mut self,
        batch: &Batch,
        tape: EncoderTape,
        gradient: Vec<f32>,
    ) -> Result<(), ModelError> {
        let encoder = self.model.encoder();
        let tokens = encoder.tokens(batch)?;
        let Self { buffers, gradients, .. } = self;
        let gradients =
            gradients.encoder.as_mut().ok_or_else(|| ModelError::Config("fused operations run on the CPU".into()))?;
        encoder.with_weights(|weights| weights.backward(tokens, tape, gradient, gradients, buffers))
    }

    /// Starts a step: all gradients are 0.
    pub fn clear(&mut self) {
        self.gradients.clear(self.model.encoder().config().hidden_size);
    }

    /// The gradients of `loss`, added to those since [`Learner::clear`]. `passes` are all the passes that it was made of.
    ///
    /// # Errors
    /// When a tensor operation fails.
    pub fn backward(&mut self, loss: &Tensor, passes: Vec<Pass>) -> Result<(), ModelError> {
        let store = loss.backward()?;
        self.gradients.take_from(&store, self.model.variables())?;
        for FusedPass { batch, mut states, tape, pooled } in passes.into_iter().filter_map(|pass| pass.fused) {
            let Some(gradient) = store.get(&pooled) else { continue };
            let gradient = gradient.flatten_all()?.to_vec1::<f32>()?;
            let hidden = gradient.len() / batch.len().max(1);
            states.fill(0.0);
            for (index, gradient) in gradient.chunks(hidden).enumerate() {
                let own = batch.own(index);
                let share = 1.0 / own.len() as f32;
                for state in states[own.start * hidden..own.end * hidden].chunks_mut(hidden) {
                    state.iter_mut().zip(gradient).for_each(|(state, gradient)| *state = gradient * share);
                }
            }
            self.states_backward(&batch, tape, states)?;
        }
        Ok(())
    }

    /// The gradients since [`Learner::clear`].
    pub fn gradients(&mut self) -> &mut Gradients {
        &mut self.gradients
    }

    /// The model.
    pub fn model(&self) -> &'a MultiTaskModel {
        self.model
    }
}
