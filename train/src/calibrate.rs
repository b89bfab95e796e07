//! Temperatures and thresholds, chosen on validation data.

use yingda_models::Thresholds;

use crate::metrics::best;

/// How far the logarithm of a temperature lies from 0 before any row has been seen (standard deviation): a factor of two.
const SPREAD: f64 = std::f64::consts::LN_2;

/// The temperature that is most likely after the labels (Guo et al. 2017, <https://arxiv.org/abs/1706.04599>), before which it
/// is about 1: of rows that are all right the likelihood alone would make it 0, and every probability 1.
///
/// `rows` are logits with the gold index. Without rows the temperature is 1.
pub fn temperature(rows: &[(Vec<f32>, usize)]) -> f32 {
    most_likely(rows, SPREAD)
}

/// The temperature that makes the likelihood of the labels highest, whatever it is. For comparing logits of different sizes: it takes
/// out of them how large they are.
pub(crate) fn likeliest_temperature(rows: &[(Vec<f32>, usize)]) -> f32 {
    most_likely(rows, f64::INFINITY)
}

fn most_likely(rows: &[(Vec<f32>, usize)], spread: f64) -> f32 {
    if rows.is_empty() {
        return 1.0;
    }
    let loss = |log_temperature: f64| -> f64 {
        let temperature = log_temperature.exp();
        let before = 0.5 * (log_temperature / spread).powi(2);
        let rows = rows
            .iter()
            .map(|(logits, gold)| {
                let top = logits.iter().copied().fold(f32::MIN, f32::max);
                let scaled = |logit: f32| f64::from(logit - top) / temperature;
                logits.iter().map(|&logit| scaled(logit).exp()).sum::<f64>().ln() - scaled(logits[*gold])
            })
            .sum::<f64>();
        before + rows
    };
    // Golden-section search over log T: the loss has one minimum there.
    let ratio = (5f64.sqrt() - 1.0) / 2.0;
    let (mut low, mut high) = (0.05f64.ln(), 20f64.ln());
    for _ in 0..60 {
        let (left, right) = (high - ratio * (high - low), low + ratio * (high - low));
        if loss(left) < loss(right) { high = right } else { low = left }
    }
    f64::midpoint(low, high).exp() as f32
}

pub use yingda_models::softmax;

/// The least confidence at which the accepted predictions are right with at least `precision`, and what share is accepted.
///
/// `rows` are calibrated probabilities with the gold index.
pub fn confidence_threshold(rows: &[(Vec<f32>, usize)], precision: f64) -> (f32, f64) {
    let scored = rows.iter().map(|(probabilities, gold)| {
        let (predicted, confidence) = best(probabilities);
        (confidence, predicted == *gold)
    });
    precise_threshold(scored.collect(), precision)
}

/// No threshold is higher: what comes after it is the rounding of a softmax.
const SUREST: f32 = 0.999;

/// The least score at which the rows `(score, right)` at or above it are right with at least `precision`, and their share.
///
/// When no score is enough, the one above which rows are right most often.
fn precise_threshold(mut scored: Vec<(f32, bool)>, precision: f64) -> (f32, f64) {
    scored.sort_by(|a, b| b.0.total_cmp(&a.0));
    // The first rows can be right by luck: a threshold must rest on 20 of them, or on all there are.
    let least = scored.len().min(20);
    let mut right = 0usize;
    let mut chosen = None;
    let mut fallback = (0.9, 0.0, -1.0);
    for (index, &(score, hit)) in scored.iter().enumerate() {
        right += usize::from(hit);
        let accepted = index + 1;
        let reached = right as f64 / accepted as f64;
        let share = accepted as f64 / scored.len() as f64;
        if accepted >= least {
            if reached >= precision {
                chosen = Some((score, share));
            }
            if reached > fallback.2 {
                fallback = (score, share, reached);
            }
        }
    }
    let (threshold, share) = chosen.unwrap_or((fallback.0, fallback.1));
    // Rows that are all sure and right must not shut out a row that is as good as sure.
    (threshold.min(SUREST), share)
}

/// The probability of `negative` from which calling a message negative gives the best F1.
pub fn negative_threshold(rows: &[(Vec<f32>, usize)]) -> f32 {
    let scored: Vec<(f32, bool)> = rows.iter().map(|(probabilities, gold)| (probabilities[0], *gold == 0)).collect();
    let gold = scored.iter().filter(|row| row.1).count();
    let f1 = |at: f32| {
        let said = scored.iter().filter(|row| row.0 >= at).count();
        let hits = scored.iter().filter(|row| row.0 >= at && row.1).count();
        2.0 * hits as f64 / (said + gold).max(1) as f64
    };
    let mut best = (Thresholds::default().negative, -1.0);
    for step in 6..=18 {
        let at = step as f32 * 0.05;
        if f1(at) > best.1 {
            best = (at, f1(at));
        }
    }
    if gold == 0 { Thresholds::default().negative } else { best.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logits twice too sharp: labels drawn as if they had been divided by 2 give a temperature of 2.
    #[test]
    fn finds_the_temperature_that_was_used() {
        let mut rows = Vec::new();
        for step in 0..400 {
            let logit = (step as f32 - 200.0) / 50.0;
            let probability = 1.0 / (1.0 + (-logit / 2.0).exp());
            let positives = (probability * 100.0).round() as usize;
            rows.extend((0..100).map(|row| (vec![0.0, logit], usize::from(row < positives))));
        }
        let found = temperature(&rows);
        assert!((found - 2.0).abs() < 0.05, "{found}");
        assert_eq!(temperature(&[]), 1.0);
    }

    /// Where nothing is wrong, more rows say that the model may be surer, and never that it may be certain.
    #[test]
    fn rows_that_are_all_right_do_not_make_it_certain() {
        let right = |count: usize| temperature(&vec![(vec![4.0, 0.0, 0.0], 0); count]);
        assert!(right(14) > 0.6 && right(3000) < right(14), "{} {}", right(14), right(3000));
        assert!(right(3000) > 0.3, "{}", right(3000));
        // One class alone has nothing to say.
        assert!((temperature(&[(vec![7.0], 0)]) - 1.0).abs() < 0.01);
        let (threshold, _) = confidence_threshold(&vec![(vec![1.0, 0.0], 0); 100], 0.95);
        assert_eq!(threshold, SUREST);
    }

    #[test]
    fn threshold_keeps_the_promised_precision() {
        let rows: Vec<(Vec<f32>, usize)> = (0..100)
            .map(|row| {
                let confidence = 0.5 + row as f32 / 250.0;
                (vec![confidence, 1.0 - confidence], usize::from(row < 50 && row % 2 == 0))
            })
            .collect();
        let (threshold, share) = confidence_threshold(&rows, 0.95);
        let accepted: Vec<_> = rows.iter().filter(|row| row.0[0] >= threshold).collect();
        let right = accepted.iter().filter(|row| row.1 == 0).count() as f64 / accepted.len() as f64;
        assert!(right >= 0.95 && share > 0.5, "{threshold} {share} {right}");
    }
}
