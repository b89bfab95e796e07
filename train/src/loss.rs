//! The losses: weighted cross-entropy over the rows that have a label, and the contrastive loss of the embedding.

use candle_core::{D, DType, Device, Result, Tensor};

/// Weighted mean cross-entropy of `logits [batch, classes]` over the rows that have a label.
///
/// The same as `torch.nn.CrossEntropyLoss(weight, ignore_index)`: each row counts with the weight of its class, and the sum is
/// divided by the sum of these weights. `None` when no row has a label.
///
/// # Errors
/// When a tensor operation fails.
pub fn cross_entropy(logits: &Tensor, labels: &[Option<u32>], class_weights: &[f32]) -> Result<Option<Tensor>> {
    let classes = logits.dim(1)?;
    let weights: Vec<f32> =
        labels.iter().map(|label| label.map_or(0.0, |label| class_weights[label as usize])).collect();
    let total: f32 = weights.iter().sum();
    if total <= 0.0 {
        return Ok(None);
    }
    let mut targets = vec![0f32; labels.len() * classes];
    for ((row, label), weight) in labels.iter().enumerate().zip(&weights) {
        if let Some(label) = label {
            targets[row * classes + *label as usize] = weight / total;
        }
    }
    let targets = Tensor::from_vec(targets, (labels.len(), classes), logits.device())?;
    let log_probabilities = candle_nn::ops::log_softmax(logits, D::Minus1)?;
    Ok(Some((log_probabilities * targets)?.sum_all()?.neg()?))
}

/// Symmetric InfoNCE (van den Oord et al. 2018, <https://arxiv.org/abs/1807.03748>) with in-batch negatives.
///
/// `left` and `right` are embeddings `[pairs, hidden]` of length 1; row `i` of both means the same. No two pairs may be of one
/// knowledge entry, or an answer would be pushed away from itself.
///
/// # Errors
/// When a tensor operation fails.
pub fn info_nce(left: &Tensor, right: &Tensor, temperature: f64) -> Result<Tensor> {
    let similarity = (left.matmul(&right.t()?)? / temperature)?;
    let pairs = similarity.dim(0)?;
    let diagonal = Tensor::eye(pairs, DType::F32, similarity.device())?;
    let one_way = |similarity: &Tensor| -> Result<Tensor> {
        let log_probabilities = candle_nn::ops::log_softmax(similarity, D::Minus1)?;
        ((log_probabilities * &diagonal)?.sum_all()?.neg()? / pairs as f64)?.contiguous()
    };
    (one_way(&similarity)? + one_way(&similarity.t()?.contiguous()?)?)? / 2.0
}

/// Weights that lift rare classes: `(messages / (classes × messages of the class)) ^ power`, scaled to a mean of 1.
///
/// Power 0 treats every message alike, 1 every class alike. A class without messages gets weight 0.
pub fn class_weights(counts: &[usize], power: f64) -> Vec<f32> {
    let present = counts.iter().filter(|&&count| count > 0).count().max(1);
    let total: usize = counts.iter().sum();
    let raw: Vec<f64> = counts
        .iter()
        .map(|&count| if count == 0 { 0.0 } else { (total as f64 / (present * count) as f64).powf(power) })
        .collect();
    let mean = raw.iter().sum::<f64>() / present as f64;
    raw.iter().map(|weight| if mean > 0.0 { (weight / mean) as f32 } else { 0.0 }).collect()
}

/// A scalar 0, for sums of losses that may be missing.
///
/// # Errors
/// When the device cannot hold it.
pub fn zero(device: &Device) -> Result<Tensor> {
    Tensor::zeros((), DType::F32, device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_without_a_label_do_not_count() -> Result<()> {
        let logits = Tensor::new(&[[2.0f32, 0.0], [0.0, 2.0], [5.0, -5.0]], &Device::Cpu)?;
        let with = cross_entropy(&logits, &[Some(0), Some(1), None], &[1.0, 1.0])?.expect("two labels");
        let expected = (1.0 + (-2f32).exp()).ln();
        assert!((with.to_scalar::<f32>()? - expected).abs() < 1e-6);
        assert!(cross_entropy(&logits, &[None, None, None], &[1.0, 1.0])?.is_none());
        Ok(())
    }

    #[test]
    fn class_weights_lift_the_rare_and_average_one() {
        let weights = class_weights(&[90, 10, 0], 1.0);
        assert!((weights[1] / weights[0] - 9.0).abs() < 1e-5);
        assert_eq!(weights[2], 0.0);
        assert!((weights[0] + weights[1] - 2.0).abs() < 1e-5);
        assert_eq!(class_weights(&[90, 10], 0.0), vec![1.0, 1.0]);
    }
}
