//! AdamW (Loshchilov and Hutter 2017, <https://arxiv.org/abs/1711.05101>) with gradient clipping, a schedule, and moments
//! that can be saved.
//!
//! candle's own has one decay for all variables, hides its moments and clips nothing.

use std::{cell::RefCell, collections::BTreeMap};

use candle_core::{CpuStorage, Device, InplaceOp1, Layout, Result, Tensor, Var};
use pulp::{Arch, Simd};
use rayon::prelude::*;
use yingda_models::{Gradient, Gradients};

/// Settings that do not change during a run.
#[derive(Clone, Copy, Debug)]
pub struct AdamWSettings {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Weight decay of everything but biases and norms.
    pub weight_decay: f64,
    /// Largest L2 norm of all gradients together.
    pub max_norm: f64,
    /// What the learning rate is multiplied with for every layer further down (Howard and Ruder 2018,
    /// <https://arxiv.org/abs/1801.06146>); 1 for the same rate everywhere.
    pub layer_decay: f64,
    /// Layers of the encoder, for `layer_decay`.
    pub layers: usize,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, max_norm: 1.0, layer_decay: 1.0, layers: 0 }
    }
}

struct Moments {
    first: Vec<f32>,
    second: Vec<f32>,
}

/// The optimiser of a set of named variables.
pub struct AdamW {
    settings: AdamWSettings,
    steps: i32,
    moments: BTreeMap<String, Moments>,
}

impl AdamW {
    /// An optimiser that has not stepped yet.
    pub fn new(settings: AdamWSettings) -> Self {
        Self { settings, steps: 0, moments: BTreeMap::new() }
    }

    /// Clips the gradients and moves every variable that has one, in one walk over its numbers. Returns the norm of all
    /// gradients before clipping.
    ///
    /// Rows of the word table that a step did not touch stay as they are, moments and decay included, as in torch's
    /// `SparseAdam`. A gradient that is not a number leaves all variables as they were and is returned as such.
    ///
    /// # Errors
    /// When a tensor cannot be read or set.
    pub fn step(
        &mut self,
        variables: &BTreeMap<String, Var>,
        gradients: &mut Gradients,
        learning_rate: f64,
    ) -> Result<f64> {
        let mut squares = 0f64;
        gradients.each(|name, gradient| {
            if !variables.contains_key(name) {
                return;
            }
            squares += match gradient {
                Gradient::Dense(values) => square_sum(values),
                Gradient::Rows { values, rows } => {
                    let width = width_of(variables, name);
                    rows.iter().map(|&row| square_sum(&values[row as usize * width..][..width])).sum()
                }
            };
        });
        let norm = squares.sqrt();
        if !norm.is_finite() {
            return Ok(norm);
        }
        self.steps += 1;
        let settings = self.settings;
        let correction1 = 1.0 - settings.beta1.powi(self.steps);
        let mut failed = Ok(());
        gradients.each(|name, gradient| {
            let Some(variable) = variables.get(name) else { return };
            if failed.is_err() {
                return;
            }
            let rate = learning_rate * settings.layer_decay.powi(depth(name, settings.layers));
            let decay = if decays(name) { settings.weight_decay } else { 0.0 };
            let rule = Rule {
                // As torch.nn.utils.clip_grad_norm_.
                scale: (settings.max_norm / (norm + 1e-6)).min(1.0) as f32,
                beta1: settings.beta1 as f32,
                beta2: settings.beta2 as f32,
                epsilon: settings.epsilon as f32,
                correction2: (1.0 - settings.beta2.powi(self.steps)).sqrt() as f32,
                step_size: (rate / correction1) as f32,
                keep: (1.0 - rate * decay) as f32,
            };
            let moments = self.moments.entry(name.to_owned()).or_insert_with(|| {
                let count = variable.elem_count();
                Moments { first: vec![0.0; count], second: vec![0.0; count] }
            });
            failed = move_variable(variable, &rule, moments, gradient);
        });
        failed.map(|()| norm)
    }

    /// Steps taken so far.
    pub fn steps(&self) -> usize {
        self.steps as usize
    }

    /// The moments as flat tensors named `first.NAME` and `second.NAME`.
    ///
    /// # Errors
    /// When a tensor cannot be made.
    pub fn to_tensors(&self) -> Result<BTreeMap<String, Tensor>> {
        let mut tensors = BTreeMap::new();
        for (name, moments) in &self.moments {
            for (kind, values) in [("first", &moments.first), ("second", &moments.second)] {
                tensors.insert(format!("{kind}.{name}"), Tensor::new(values.as_slice(), &Device::Cpu)?);
            }
        }
        Ok(tensors)
    }

    /// Puts back what [`AdamW::to_tensors`] gave after `steps` steps.
    ///
    /// # Errors
    /// When a tensor cannot be read.
    pub fn restore(&mut self, steps: usize, tensors: impl IntoIterator<Item = (String, Tensor)>) -> Result<()> {
        self.steps = i32::try_from(steps).unwrap_or(i32::MAX);
        self.moments.clear();
        for (key, tensor) in tensors {
            let Some((kind, name)) = key.split_once('.') else { continue };
            let moments = self
                .moments
                .entry(name.to_owned())
                .or_insert_with(|| Moments { first: Vec::new(), second: Vec::new() });
            let values = tensor.to_vec1()?;
            if kind == "first" { moments.first = values } else { moments.second = values }
        }
        Ok(())
    }
}

/// The numbers of one update.
#[derive(Clone, Copy)]
struct Rule {
    scale: f32,
    beta1: f32,
    beta2: f32,
    epsilon: f32,
    correction2: f32,
    step_size: f32,
    keep: f32,
}

/// One variable's part of a step, as candle lets it change a variable in place.
struct Update<'a>(RefCell<(&'a Rule, &'a mut Moments, Gradient<'a>)>);

impl InplaceOp1 for Update<'_> {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let CpuStorage::F32(values) = storage else { candle_core::bail!("variables are 32-bit floats") };
        let values = &mut values[layout.start_offset()..][..layout.shape().elem_count()];
        let (rule, moments, gradient) = &mut *self.0.borrow_mut();
        moments.apply(rule, values, gradient, layout.dims().last().copied().unwrap_or(1));
        Ok(())
    }
}

impl Moments {
    fn apply(&mut self, rule: &Rule, values: &mut [f32], gradient: &Gradient<'_>, width: usize) {
        const BLOCK: usize = 1 << 14;
        match gradient {
            Gradient::Dense(gradient) => values
                .par_chunks_mut(BLOCK)
                .zip(gradient.par_chunks(BLOCK))
                .zip(self.first.par_chunks_mut(BLOCK))
                .zip(self.second.par_chunks_mut(BLOCK))
                .for_each(|(((values, gradient), first), second)| update(*rule, values, gradient, first, second)),
            Gradient::Rows { values: gradient, rows } if rows.len() * width == values.len() => {
                self.apply(rule, values, &Gradient::Dense(&mut gradient.to_vec()), width);
            }
            Gradient::Rows { values: gradient, rows } => {
                for &row in *rows {
                    let range = row as usize * width..(row as usize + 1) * width;
                    let (first, second) = (&mut self.first[range.clone()], &mut self.second[range.clone()]);
                    update(*rule, &mut values[range.clone()], &gradient[range], first, second);
                }
            }
        }
    }
}

fn move_variable(variable: &Var, rule: &Rule, moments: &mut Moments, gradient: Gradient<'_>) -> Result<()> {
    if variable.device().is_cpu() {
        return variable.as_tensor().inplace_op1(&Update(RefCell::new((rule, moments, gradient))));
    }
    let mut values = variable.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<f32>()?;
    moments.apply(rule, &mut values, &gradient, variable.dims().last().copied().unwrap_or(1));
    variable.set(&Tensor::from_vec(values, variable.shape(), variable.device())?)
}

#[pulp::with_simd(update = Arch::new())]
#[inline(always)]
fn update_simd<'a, S: Simd>(
    _simd: S,
    rule: Rule,
    values: &'a mut [f32],
    gradient: &'a [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
) {
    for ((value, gradient), (first, second)) in
        values.iter_mut().zip(gradient).zip(first.iter_mut().zip(second.iter_mut()))
    {
        let gradient = gradient * rule.scale;
        *first = rule.beta1 * *first + (1.0 - rule.beta1) * gradient;
        *second = rule.beta2 * *second + (1.0 - rule.beta2) * gradient * gradient;
        *value = *value * rule.keep - rule.step_size * *first / (second.sqrt() / rule.correction2 + rule.epsilon);
    }
}

/// The sum of squares; added up in pieces, because one 32-bit sum over millions of squares would lose digits.
fn square_sum(values: &[f32]) -> f64 {
    let pieces: Vec<f64> = values.par_chunks(1 << 14).map(|piece| f64::from(squares(piece))).collect();
    pieces.iter().sum()
}

#[pulp::with_simd(squares = Arch::new())]
#[inline(always)]
fn squares_simd<S: Simd>(_simd: S, values: &[f32]) -> f32 {
    let mut lanes = [0f32; 32];
    let (chunks, rest) = values.as_chunks::<32>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value * value;
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|value| value * value).sum::<f32>()
}

fn width_of(variables: &BTreeMap<String, Var>, name: &str) -> usize {
    variables.get(name).and_then(|variable| variable.dims().last().copied()).unwrap_or(1)
}

/// How many layers lie above a variable: 0 for the heads, `layers + 1` for the embeddings.
fn depth(name: &str, layers: usize) -> i32 {
    let layer = name.strip_prefix("encoder.layer.").and_then(|rest| rest.split('.').next()?.parse::<usize>().ok());
    let depth = match layer {
        Some(layer) => layers.saturating_sub(layer),
        None if name.starts_with("embeddings.") => layers + 1,
        None => 0,
    };
    i32::try_from(depth).unwrap_or(i32::MAX)
}

/// Biases and norm weights are not pulled towards 0.
fn decays(name: &str) -> bool {
    !name.ends_with(".bias") && !name.contains("LayerNorm")
}

/// Learning rate at `step` (from 0) of `total`: linear from 0 to `peak` over the first `warm_up` steps, then linearly to 0.
pub fn learning_rate(peak: f64, step: usize, warm_up: usize, total: usize) -> f64 {
    if step < warm_up {
        peak * (step + 1) as f64 / warm_up as f64
    } else {
        peak * (total.saturating_sub(step)) as f64 / (total - warm_up).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warm_up_then_decay() {
        let at = |step| learning_rate(1.0, step, 10, 110);
        assert_eq!((at(0), at(9), at(10), at(60), at(110)), (0.1, 1.0, 1.0, 0.5, 0.0));
        assert!(learning_rate(1.0, 0, 0, 0).is_finite());
    }

    #[test]
    fn what_decays() {
        assert!(decays("encoder.layer.0.output.dense.weight"));
        assert!(!decays("encoder.layer.0.output.dense.bias"));
        assert!(!decays("embeddings.LayerNorm.weight"));
    }
}
