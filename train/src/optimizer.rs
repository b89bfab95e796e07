//! AdamW (Loshchilov and Hutter 2017, <https://arxiv.org/abs/1711.05101>) with gradient clipping, a schedule, and moments
//! that can be saved.
//!
//! candle's own has one decay for all variables, hides its moments and clips nothing.

use std::collections::BTreeMap;

use candle_core::{Device, Result, Tensor, Var, backprop::GradStore};

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
}

impl Default for AdamWSettings {
    fn default() -> Self {
        Self { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.01, max_norm: 1.0 }
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

    /// Clips the gradients and moves every variable that has one. Returns the norm of all gradients before clipping.
    ///
    /// A gradient that is not a number leaves all variables as they were and is returned as such.
    ///
    /// # Errors
    /// When a tensor cannot be read or set.
    pub fn step(
        &mut self,
        variables: &BTreeMap<String, Var>,
        gradients: &GradStore,
        learning_rate: f64,
    ) -> Result<f64> {
        let mut present = Vec::with_capacity(variables.len());
        let mut square_sum = 0f64;
        for (name, variable) in variables {
            if let Some(gradient) = gradients.get(variable) {
                let gradient = gradient.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<f32>()?;
                // Summed in pieces: one f32 accumulator over millions of squares would lose digits.
                square_sum +=
                    gradient.chunks(4096).map(|c| f64::from(c.iter().map(|g| g * g).sum::<f32>())).sum::<f64>();
                present.push((name, variable, gradient));
            }
        }
        let norm = square_sum.sqrt();
        if !norm.is_finite() {
            return Ok(norm);
        }
        // As torch.nn.utils.clip_grad_norm_.
        let scale = (self.settings.max_norm / (norm + 1e-6)).min(1.0) as f32;
        self.steps += 1;
        let AdamWSettings { beta1, beta2, epsilon, .. } = self.settings;
        let correction1 = 1.0 - beta1.powi(self.steps);
        let correction2 = (1.0 - beta2.powi(self.steps)).sqrt();
        let step_size = (learning_rate / correction1) as f32;
        let (b1, b2, epsilon, correction2) = (beta1 as f32, beta2 as f32, epsilon as f32, correction2 as f32);
        for (name, variable, gradient) in present {
            let decay = if decays(name) { self.settings.weight_decay } else { 0.0 };
            let keep = (1.0 - learning_rate * decay) as f32;
            let mut values = variable.flatten_all()?.to_device(&Device::Cpu)?.to_vec1::<f32>()?;
            let moments = self
                .moments
                .entry(name.clone())
                .or_insert_with(|| Moments { first: vec![0.0; gradient.len()], second: vec![0.0; gradient.len()] });
            let rows = values.iter_mut().zip(&gradient).zip(moments.first.iter_mut().zip(&mut moments.second));
            for ((value, gradient), (first, second)) in rows {
                let gradient = gradient * scale;
                *first = b1 * *first + (1.0 - b1) * gradient;
                *second = b2 * *second + (1.0 - b2) * gradient * gradient;
                *value = *value * keep - step_size * *first / (second.sqrt() / correction2 + epsilon);
            }
            variable.set(&Tensor::from_vec(values, variable.shape(), variable.device())?)?;
        }
        Ok(norm)
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
