//! Adversarial training: the word vectors of a step are moved to where its loss grows fastest, and the step is learnt there too
//! (FGM, Miyato et al. 2017, <https://arxiv.org/abs/1605.07725>).

use std::cell::RefCell;

use candle_core::{CpuStorage, InplaceOp1, Layout, Result, Tensor, Var};
use yingda_models::{Gradient, Gradients, WORDS};

/// Word vectors that were moved, with what they were.
pub(crate) struct Moved<'a> {
    words: &'a Var,
    rows: Vec<u32>,
    before: Vec<f32>,
}

impl<'a> Moved<'a> {
    /// Moves the rows of the table `words` that have a gradient along it, all together by the length `distance`.
    ///
    /// # Errors
    /// When the table cannot be changed.
    pub(crate) fn new(words: &'a Var, gradients: &mut Gradients, distance: f64) -> Result<Self> {
        let width = words.dim(1)?;
        let (mut rows, mut steps) = (Vec::new(), Vec::new());
        gradients.each(|name, gradient| {
            if let Gradient::Rows { values, rows: touched } = gradient
                && name == WORDS
            {
                rows = touched.to_vec();
                steps = rows.iter().flat_map(|&row| values[row as usize * width..][..width].to_vec()).collect();
            }
        });
        let norm = steps.iter().map(|step| f64::from(*step).powi(2)).sum::<f64>().sqrt();
        let scale = if norm.is_finite() && norm > 0.0 { (distance / norm) as f32 } else { 0.0 };
        let index = Tensor::from_slice(&rows, rows.len(), words.device())?;
        let before = words.as_tensor().index_select(&index, 0)?.flatten_all()?.to_vec1::<f32>()?;
        let moved: Vec<f32> = before.iter().zip(&steps).map(|(value, step)| value + scale * step).collect();
        let this = Self { words, rows, before };
        this.write(&moved)?;
        Ok(this)
    }

    /// Puts the rows back, bit for bit.
    ///
    /// # Errors
    /// When the table cannot be changed.
    pub(crate) fn back(self) -> Result<()> {
        self.write(&self.before)
    }

    fn write(&self, values: &[f32]) -> Result<()> {
        if self.words.device().is_cpu() {
            return self.words.as_tensor().inplace_op1(&SetRows(RefCell::new((&self.rows, values))));
        }
        let width = self.words.dim(1)?;
        let mut table = self.words.as_tensor().flatten_all()?.to_vec1::<f32>()?;
        set(&mut table, &self.rows, values, width);
        self.words.set(&Tensor::from_vec(table, self.words.shape(), self.words.device())?)
    }
}

fn set(table: &mut [f32], rows: &[u32], values: &[f32], width: usize) {
    for (&row, values) in rows.iter().zip(values.chunks(width)) {
        table[row as usize * width..][..width].copy_from_slice(values);
    }
}

/// Rows with their new values, as candle lets a table be changed in place.
struct SetRows<'a>(RefCell<(&'a [u32], &'a [f32])>);

impl InplaceOp1 for SetRows<'_> {
    fn name(&self) -> &'static str {
        "set-rows"
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let CpuStorage::F32(table) = storage else { candle_core::bail!("variables are 32-bit floats") };
        let table = &mut table[layout.start_offset()..][..layout.shape().elem_count()];
        let (rows, values) = *self.0.borrow();
        set(table, rows, values, layout.dims().last().copied().unwrap_or(1));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use yingda_models::{Batch, BertConfig, Labels, Learner, MultiTaskModel, Parameters};

    use super::*;

    #[test]
    fn rows_of_the_step_move_by_the_distance_and_come_back_bit_for_bit() {
        let config = BertConfig {
            vocab_size: 9,
            hidden_size: 8,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            intermediate_size: 16,
            max_position_embeddings: 8,
            hidden_dropout_prob: 0.0,
            ..BertConfig::default()
        };
        let labels = Labels { intents: vec!["退货".into(), "换货".into()], sentiments: vec!["neutral".into()] };
        let parameters = Parameters::fresh(1, 0.2, &Device::Cpu);
        let (model, _) = MultiTaskModel::new(parameters, &config, &labels, &Device::Cpu).expect("a model");
        let words = &model.variables()[WORDS];
        let table = || words.as_tensor().to_vec2::<f32>().expect("a table");
        let mut learner = Learner::new(&model).expect("a learner");
        let loss_here = |learner: &mut Learner<'_>| {
            let pass = learner.forward(Batch::new(&[[2u32, 5, 7, 3]]), 1).expect("a pass");
            let loss = crate::loss::cross_entropy(&pass.output.intent_logits, &[Some(0)], &[1.0, 1.0], 0.0);
            (loss.expect("a loss").expect("a label"), pass)
        };
        let before = table();
        let (loss, pass) = loss_here(&mut learner);
        learner.backward(&loss, vec![pass]).expect("gradients");
        let moved = Moved::new(words, learner.gradients(), 0.5).expect("moved");
        let during = table();
        let changed: Vec<usize> = (0..9).filter(|&row| before[row] != during[row]).collect();
        assert_eq!(changed, [2, 3, 5, 7]);
        let squares = before.iter().flatten().zip(during.iter().flatten()).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
        assert!((squares.sqrt() - 0.5).abs() < 1e-3, "{squares}");
        let worse = loss_here(&mut learner).0.to_scalar::<f32>().expect("a scalar");
        assert!(worse > loss.to_scalar::<f32>().expect("a scalar"), "the loss grows along its gradient: {worse}");
        moved.back().expect("back");
        assert_eq!(before, table());
    }
}
