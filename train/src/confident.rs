//! Confident learning: which labels are probably wrong, from predictions of models that did not learn from them.
//!
//! Northcutt, Jiang and Chuang 2021, <https://arxiv.org/abs/1911.00068>. Everything here is plain arithmetic on
//! probabilities and labels; who makes the probabilities is [`noise`](crate::noise).

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::metrics::best;

/// Probabilities that lie this little below a threshold still reach it: a mean of equal numbers is not always that
/// number.
const TOLERANCE: f64 = 1e-6;

/// What the worst suspect is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum RankBy {
    /// The probability of the given label less the largest of the others: lowest first
    #[default]
    NormalizedMargin,
    /// The probability of the given label: lowest first
    SelfConfidence,
}

/// A label that is probably wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Suspect {
    /// Which of the rows.
    pub row: usize,
    /// The class it was given.
    pub given: usize,
    /// The class it probably is.
    pub suggested: usize,
    /// Quality of the given label by the chosen ranking, 0 (surely wrong) to 1.
    pub quality: f64,
}

/// What confident learning says of a set of labels.
#[derive(Clone, Debug, PartialEq)]
pub struct ConfidentLearning {
    /// From which probability on a row is confidently of a class: the mean probability of the class over the rows that
    /// were given it. `None` where no row was.
    pub thresholds: Vec<Option<f64>>,
    /// The confident joint, `counts[given][probable]`: rows by the label they were given and the class they are
    /// confidently of. Rows that are confidently of no class are not counted.
    pub counts: Vec<Vec<usize>>,
    /// Estimated number of rows, `joint[given][true]`: the counts, scaled so that each label keeps its number of rows.
    pub joint: Vec<Vec<f64>>,
    /// Rows off the diagonal of the confident joint, worst first.
    pub suspects: Vec<Suspect>,
}

impl ConfidentLearning {
    /// How many labels are wrong, by estimate.
    pub fn estimated_wrong(&self) -> f64 {
        let cells =
            self.joint.iter().enumerate().flat_map(|(given, row)| row.iter().enumerate().map(move |c| (given, c)));
        cells.filter(|(given, (class, _))| given != class).map(|(_, (_, rows))| rows).sum()
    }
}

/// Finds suspect labels among `rows`, each the probabilities of all `classes` and the class that was given.
///
/// The thresholds, the confident joint and its calibration are those of the paper, sections 3.1 and 3.2. A row that
/// reaches several thresholds is of the likeliest of these classes; equally bad suspects keep the order of their rows.
pub fn confident_learning(classes: usize, rows: &[(Vec<f32>, usize)], rank_by: RankBy) -> ConfidentLearning {
    let mut sums = vec![(0f64, 0usize); classes];
    for (probabilities, given) in rows {
        sums[*given].0 += f64::from(probabilities[*given]);
        sums[*given].1 += 1;
    }
    let thresholds: Vec<Option<f64>> =
        sums.iter().map(|&(sum, count)| (count > 0).then(|| sum / count as f64)).collect();

    let mut counts = vec![vec![0usize; classes]; classes];
    let mut suspects = Vec::new();
    for (row, (probabilities, given)) in rows.iter().enumerate() {
        let reached: Vec<f32> = probabilities
            .iter()
            .zip(&thresholds)
            .map(|(&probability, threshold)| match threshold {
                Some(threshold) if f64::from(probability) >= threshold - TOLERANCE => probability,
                _ => f32::NEG_INFINITY,
            })
            .collect();
        let (probable, probability) = best(&reached);
        if probability < 0.0 {
            continue;
        }
        counts[*given][probable] += 1;
        if probable != *given {
            let quality = quality(probabilities, *given, rank_by);
            suspects.push(Suspect { row, given: *given, suggested: probable, quality });
        }
    }
    suspects.sort_by(|a, b| a.quality.total_cmp(&b.quality));

    let joint = counts
        .iter()
        .enumerate()
        .map(|(class, row)| {
            // A label of which no row is confidently right is taken to be right once, so that it has a row to scale.
            let count = |other: usize| if other == class { row[other].max(1) } else { row[other] } as f64;
            let all: f64 = (0..classes).map(count).sum();
            (0..classes).map(|other| count(other) * sums[class].1 as f64 / all).collect()
        })
        .collect();
    ConfidentLearning { thresholds, counts, joint, suspects }
}

fn quality(probabilities: &[f32], given: usize, rank_by: RankBy) -> f64 {
    let own = f64::from(probabilities[given]);
    match rank_by {
        RankBy::SelfConfidence => own,
        RankBy::NormalizedMargin => {
            let others = probabilities.iter().enumerate().filter(|(class, _)| *class != given);
            let most = others.map(|(_, &probability)| f64::from(probability)).fold(0.0, f64::max);
            (own - most + 1.0) / 2.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<(Vec<f32>, usize)> {
        [
            ([0.90, 0.05, 0.05], 0),
            ([0.80, 0.15, 0.05], 0),
            ([0.10, 0.85, 0.05], 0), // probably 1
            ([0.70, 0.20, 0.10], 0),
            ([0.05, 0.90, 0.05], 1),
            ([0.20, 0.70, 0.10], 1),
            ([0.75, 0.20, 0.05], 1), // probably 0
            ([0.40, 0.35, 0.25], 1), // of no class
            ([0.10, 0.10, 0.80], 2),
            ([0.05, 0.60, 0.35], 2), // reaches 1
            ([0.05, 0.15, 0.80], 2),
            ([0.63, 0.36, 0.01], 2), // reaches 0 by a hair
        ]
        .map(|(probabilities, given)| (probabilities.to_vec(), given))
        .to_vec()
    }

    /// The numbers are those of cleanlab 2.9.0 on NumPy 2.4.6, `p` and `g` being the rows above:
    /// ```text
    /// get_confident_thresholds(g, p)
    /// compute_confident_joint(g, p, calibrate=False)
    /// find_label_issues(g, p, filter_by="confident_learning", return_indices_ranked_by="normalized_margin")
    /// get_label_quality_scores(g, p, method="normalized_margin")
    /// ```
    /// and of NumPy for the joint, which cleanlab rounds to whole rows (`c` with no 0 on its diagonal):
    /// `c / c.sum(1, keepdims=True) * np.bincount(g)[:, None]`.
    #[test]
    fn the_confident_joint_agrees_with_cleanlab() {
        let found = confident_learning(3, &rows(), RankBy::NormalizedMargin);
        let thresholds: Vec<f64> = found.thresholds.iter().map(|threshold| threshold.expect("every class")).collect();
        let close = |a: f64, b: f64| (a - b).abs() < 1e-6;
        assert!(thresholds.iter().zip([0.625, 0.5375, 0.49]).all(|(&a, b)| close(a, b)), "{thresholds:?}");
        assert_eq!(found.counts, [[3, 1, 0], [1, 2, 0], [1, 1, 2]]);
        let joint = [[3.0, 1.0, 0.0], [4.0 / 3.0, 8.0 / 3.0, 0.0], [1.0, 1.0, 2.0]];
        for (row, expected) in found.joint.iter().zip(joint) {
            assert!(row.iter().zip(expected).all(|(&a, b)| close(a, b)), "{:?}", found.joint);
        }
        assert!(close(found.estimated_wrong(), 13.0 / 3.0), "{}", found.estimated_wrong());

        let said: Vec<_> = found.suspects.iter().map(|s| (s.row, s.given, s.suggested)).collect();
        assert_eq!(said, [(2, 0, 1), (11, 2, 0), (6, 1, 0), (9, 2, 1)]);
        let qualities = found.suspects.iter().map(|suspect| suspect.quality);
        assert!(qualities.zip([0.125, 0.19, 0.225, 0.375]).all(|(a, b)| close(a, b)), "{:?}", found.suspects);
    }

    #[test]
    fn self_confidence_ranks_by_the_given_label_alone() {
        let found = confident_learning(3, &rows(), RankBy::SelfConfidence);
        let said: Vec<_> = found.suspects.iter().map(|suspect| suspect.row).collect();
        assert_eq!(said, [11, 2, 6, 9]);
    }

    #[test]
    fn a_class_that_no_row_was_given_is_never_suggested() {
        let rows = [(vec![0.9, 0.1, 0.0], 0), (vec![0.1, 0.0, 0.9], 0), (vec![0.2, 0.8, 0.0], 1)];
        let found = confident_learning(3, &rows, RankBy::default());
        assert_eq!(found.thresholds[2], None);
        assert!(found.suspects.is_empty(), "{:?}", found.suspects);
        assert_eq!(found.estimated_wrong(), 0.0);
        assert!(confident_learning(2, &[], RankBy::default()).suspects.is_empty());
    }

    /// A label that is always wrong still has its number of rows in the joint.
    #[test]
    fn the_joint_keeps_the_number_of_rows_of_each_label() {
        let rows = [(vec![0.9, 0.1], 0), (vec![0.8, 0.2], 0), (vec![0.9, 0.1], 1), (vec![0.88, 0.12], 1)];
        let found = confident_learning(2, &rows, RankBy::default());
        let sums: Vec<f64> = found.joint.iter().map(|row| row.iter().sum()).collect();
        assert!(sums.iter().all(|sum| (sum - 2.0).abs() < 1e-9), "{sums:?}");
    }
}
