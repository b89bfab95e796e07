//! Named weights: read from a checkpoint or drawn from a seed, as plain tensors for serving or variables for training.

use std::collections::{BTreeMap, HashMap};

use candle_core::{DType, Device, Shape, Tensor, Var};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::ModelError;

/// A seeded generator for weights, shuffles and dropout masks.
///
/// candle's generator cannot be seeded on the CPU, so every random number of a run comes from here. ChaCha8 gives the same
/// stream on every platform.
#[derive(Clone, Debug)]
pub struct Seeded(ChaCha8Rng);

impl Seeded {
    /// A generator for one purpose: the same seed and stream give the same numbers.
    pub fn new(seed: u64, stream: u64) -> Self {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(stream);
        Self(generator)
    }

    /// A number from the normal distribution, by the Box-Muller transform (Box and Muller, 1958).
    pub fn normal(&mut self, standard_deviation: f64) -> f32 {
        let radius = (-2.0 * (1.0 - self.0.random::<f64>()).ln()).sqrt();
        let angle = std::f64::consts::TAU * self.0.random::<f64>();
        (radius * angle.cos() * standard_deviation) as f32
    }

    /// `count` normal numbers.
    pub fn normals(&mut self, count: usize, standard_deviation: f64) -> Vec<f32> {
        (0..count).map(|_| self.normal(standard_deviation)).collect()
    }

    /// A whole number below `bound` (which must not be 0).
    pub fn below(&mut self, bound: usize) -> usize {
        self.0.random_range(0..bound)
    }

    /// Two seeds for what draws its own numbers.
    pub fn seeds(&mut self) -> [u64; 2] {
        [self.0.random(), self.0.random()]
    }

    /// A number from 0 up to but not including 1.
    pub fn uniform(&mut self) -> f64 {
        self.0.random()
    }

    /// Shuffles in place (Fisher-Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }

    /// A dropout mask of `count` numbers: 0 with the given probability (in steps of 1/65,536), else `1 / (1 - probability)`.
    pub fn dropout_mask(&mut self, count: usize, probability: f64) -> Vec<f32> {
        let bar = (probability * 65_536.0).round() as u32;
        let keep = (65_536.0 / f64::from(65_536 - bar)) as f32;
        let mut mask = Vec::with_capacity(count + 1);
        while mask.len() < count {
            let bits: u32 = self.0.random();
            mask.push(if bits & 0xffff < bar { 0.0 } else { keep });
            mask.push(if bits >> 16 < bar { 0.0 } else { keep });
        }
        mask.truncate(count);
        mask
    }
}

/// Where weights come from while a model is put together, and the variables of a model that is to be trained.
pub struct Parameters {
    source: HashMap<String, Tensor>,
    variables: Option<BTreeMap<String, Var>>,
    generator: Seeded,
    initializer_range: f64,
    device: Device,
    taken: BTreeMap<String, Tensor>,
    loaded: Vec<String>,
    missing: Vec<String>,
    misshapen: Vec<String>,
}

/// How a weight that the source lacks is filled.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fill {
    Normal,
    Zeros,
    Ones,
}

impl Parameters {
    /// Weights from `source` by name; those it lacks are drawn from `seed`. With `trainable`, each becomes a variable.
    pub fn new(
        source: HashMap<String, Tensor>,
        trainable: bool,
        seed: u64,
        initializer_range: f64,
        device: &Device,
    ) -> Self {
        Self {
            source,
            variables: trainable.then(BTreeMap::new),
            generator: Seeded::new(seed, 0),
            initializer_range,
            device: device.clone(),
            taken: BTreeMap::new(),
            loaded: Vec::new(),
            missing: Vec::new(),
            misshapen: Vec::new(),
        }
    }

    /// Weights drawn from `seed` alone, as variables.
    pub fn fresh(seed: u64, initializer_range: f64, device: &Device) -> Self {
        Self::new(HashMap::new(), true, seed, initializer_range, device)
    }

    pub(crate) fn get(&mut self, name: &str, shape: impl Into<Shape>, fill: Fill) -> Result<Tensor, ModelError> {
        let shape = shape.into();
        // The stream goes on whether or not the weight is found, so that a head is drawn alike with and without a base.
        let found = match self.source.remove(name) {
            Some(tensor) if *tensor.shape() == shape => {
                self.loaded.push(name.to_owned());
                Some(tensor.to_dtype(DType::F32)?.to_device(&self.device)?)
            }
            Some(tensor) => {
                self.misshapen.push(format!("{name} is {:?} and should be {:?}", tensor.dims(), shape.dims()));
                None
            }
            None => {
                self.missing.push(name.to_owned());
                None
            }
        };
        let tensor = match (found, fill) {
            (Some(tensor), _) => tensor.contiguous()?,
            (None, Fill::Zeros) => Tensor::zeros(shape, DType::F32, &self.device)?,
            (None, Fill::Ones) => Tensor::ones(shape, DType::F32, &self.device)?,
            (None, Fill::Normal) => {
                let numbers = self.generator.normals(shape.elem_count(), self.initializer_range);
                Tensor::from_vec(numbers, shape, &self.device)?
            }
        };
        let tensor = match &mut self.variables {
            None => tensor,
            Some(variables) => {
                let variable = Var::from_tensor(&tensor)?;
                let tensor = variable.as_tensor().clone();
                variables.insert(name.to_owned(), variable);
                tensor
            }
        };
        self.taken.insert(name.to_owned(), tensor.clone());
        Ok(tensor)
    }

    /// The variables that were made so far.
    pub fn variables(&self) -> BTreeMap<String, Var> {
        self.variables.clone().unwrap_or_default()
    }

    pub(crate) fn trainable(&self) -> bool {
        self.variables.is_some()
    }

    /// Every weight that was asked for so far; a variable's tensor shares its storage.
    pub(crate) fn weights(&self) -> BTreeMap<String, Tensor> {
        self.taken.clone()
    }

    /// What was taken, what was drawn, what was left over, and what has the wrong shape; and the variables by name.
    pub(crate) fn finish(self) -> (crate::LoadReport, Vec<String>, BTreeMap<String, Var>) {
        let mut unexpected: Vec<String> = self.source.into_keys().collect();
        unexpected.sort();
        let report = crate::LoadReport { loaded: self.loaded, missing: self.missing, unexpected };
        (report, self.misshapen, self.variables.unwrap_or_default())
    }
}
