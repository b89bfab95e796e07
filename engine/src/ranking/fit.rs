//! Fits the second stage by maximum likelihood.

use super::{
    Ranker, dot,
    features::{ENTRY, Features, NOTHING},
    softmax,
};

/// Pull towards 0, per unit of standardised weight, so that a few questions cannot make huge weights. On the development
/// questions 1e-4 to 1e-2 did equally well, before weights were kept from being negative.
const RIDGE: f64 = 5e-3;
const ITERATIONS: usize = 60;

/// A labelled question as it is learnt from.
#[derive(Clone, Debug)]
pub struct Row {
    /// What is seen of it.
    pub features: Features,
    /// Candidates that are right answers; none: nothing is.
    pub right: Vec<usize>,
    /// How much it counts.
    pub weight: f64,
}

const ALL: usize = ENTRY.len() + NOTHING.len();

/// The weights that make the right answers of `rows` likeliest. The same rows give the same weights.
pub fn fit(rows: &[Row]) -> Ranker {
    let entries = Scale::of(rows.iter().flat_map(|row| &row.features.entries));
    let nothing = Scale::of(rows.iter().map(|row| &row.features.nothing));
    let choices: Vec<Choice<ALL>> = rows
        .iter()
        .map(|row| {
            let count = row.features.entries.len();
            let mut alternatives = vec![[0.0; ALL]; count + 1];
            for (alternative, entry) in alternatives.iter_mut().zip(&row.features.entries) {
                alternative[..ENTRY.len()].copy_from_slice(&entries.apply(entry));
            }
            alternatives[count][ENTRY.len()..].copy_from_slice(&nothing.apply(&row.features.nothing));
            let right = if row.right.is_empty() { vec![count] } else { row.right.clone() };
            Choice { alternatives, right, weight: row.weight }
        })
        .collect();
    let weights = maximise(choices);
    let mut ranker = Ranker {
        entry: std::array::from_fn(|at| weights[at] / entries.deviation[at]),
        nothing: std::array::from_fn(|at| weights[ENTRY.len() + at] / nothing.deviation[at]),
    };
    // What was taken off the features before.
    ranker.nothing[0] += dot(&ranker.entry, &entries.mean) - dot(&ranker.nothing, &nothing.mean);
    // Six decimals are plenty, and are read from a file as they were written.
    for weight in ranker.entry.iter_mut().chain(&mut ranker.nothing) {
        *weight = (*weight * 1e6).round() / 1e6;
    }
    ranker
}

/// Mean and standard deviation of every feature.
struct Scale<const N: usize> {
    mean: [f64; N],
    deviation: [f64; N],
}

impl<const N: usize> Scale<N> {
    fn of<'a>(rows: impl Iterator<Item = &'a [f64; N]> + Clone) -> Self {
        let (mut mean, mut deviation) = ([0.0; N], [1.0; N]);
        for at in 0..N {
            let (mut count, mut sum, mut squares) = (0.0f64, 0.0, 0.0);
            rows.clone()
                .for_each(|row| (count, sum, squares) = (count + 1.0, sum + row[at], squares + row[at] * row[at]));
            let average = sum / count.max(1.0);
            let spread = (squares / count.max(1.0) - average * average).max(0.0).sqrt();
            // What never changes is left as it is: the constant, or what tells nothing.
            if spread > 1e-9 {
                (mean[at], deviation[at]) = (average, spread);
            }
        }
        Self { mean, deviation }
    }

    fn apply(&self, row: &[f64; N]) -> [f64; N] {
        std::array::from_fn(|at| (row[at] - self.mean[at]) / self.deviation[at])
    }
}

/// Alternatives of which the right ones should be chosen.
struct Choice<const N: usize> {
    alternatives: Vec<[f64; N]>,
    right: Vec<usize>,
    weight: f64,
}

impl<const N: usize> Choice<N> {
    fn probabilities(&self, weights: &[f64; N]) -> Vec<f64> {
        let mut scores: Vec<f64> = self.alternatives.iter().map(|row| dot(row, weights)).collect();
        softmax(&mut scores);
        scores
    }

    /// Where several alternatives are right, each gets the share of the blame that it has of their probability.
    fn target(&self, weights: &[f64; N]) -> Vec<f64> {
        let probabilities = self.probabilities(weights);
        let mut target = vec![0.0; probabilities.len()];
        let all: f64 = self.right.iter().map(|&at| probabilities[at]).sum();
        self.right.iter().for_each(|&at| target[at] = probabilities[at] / all.max(1e-300));
        target
    }
}

/// Newton's method within expectation maximisation (Dempster et al. 1977). More evidence for an entry never makes it less
/// likely: features of entries whose weight comes out negative are left out, until none does. Without that, features that say
/// nearly the same got large weights of opposite sign, and questions unlike those that were learnt from were misjudged.
fn maximise(mut rows: Vec<Choice<ALL>>) -> [f64; ALL] {
    let mut weights = [0.0; ALL];
    loop {
        for _ in 0..4 {
            let targets: Vec<Vec<f64>> = rows.iter().map(|row| row.target(&weights)).collect();
            weights = newton(&rows, &targets, weights);
        }
        let negative: Vec<usize> = (0..ENTRY.len()).filter(|&at| weights[at] < 0.0).collect();
        if negative.is_empty() {
            return weights;
        }
        for &at in &negative {
            weights[at] = 0.0;
            rows.iter_mut().flat_map(|row| &mut row.alternatives).for_each(|alternative| alternative[at] = 0.0);
        }
    }
}

fn loss<const N: usize>(rows: &[Choice<N>], targets: &[Vec<f64>], weights: &[f64; N]) -> f64 {
    let total: f64 = rows.iter().map(|row| row.weight).sum();
    let likelihood: f64 = rows
        .iter()
        .zip(targets)
        .map(|(row, target)| {
            let probabilities = row.probabilities(weights);
            row.weight * target.iter().zip(probabilities).map(|(t, p)| t * p.max(1e-300).ln()).sum::<f64>()
        })
        .sum();
    RIDGE / 2.0 * dot(weights, weights) - likelihood / total.max(1e-12)
}

fn newton<const N: usize>(rows: &[Choice<N>], targets: &[Vec<f64>], mut weights: [f64; N]) -> [f64; N] {
    let total: f64 = rows.iter().map(|row| row.weight).sum::<f64>().max(1e-12);
    let mut now = loss(rows, targets, &weights);
    for _ in 0..ITERATIONS {
        let mut gradient: [f64; N] = std::array::from_fn(|at| RIDGE * weights[at]);
        let mut curvature = [[0.0; N]; N];
        for (row, target) in rows.iter().zip(targets) {
            let probabilities = row.probabilities(&weights);
            let share = row.weight / total;
            let mut mean = [0.0; N];
            for ((alternative, p), t) in row.alternatives.iter().zip(&probabilities).zip(target) {
                for i in 0..N {
                    mean[i] += p * alternative[i];
                    gradient[i] += share * (p - t) * alternative[i];
                }
            }
            for (alternative, p) in row.alternatives.iter().zip(&probabilities).filter(|pair| *pair.1 > 1e-9) {
                let away: [f64; N] = std::array::from_fn(|i| alternative[i] - mean[i]);
                for i in 0..N {
                    for j in 0..=i {
                        curvature[i][j] += share * p * away[i] * away[j];
                    }
                }
            }
        }
        (0..N).for_each(|i| curvature[i][i] += RIDGE);
        let step = solve(curvature, gradient);
        let decrease = dot(&step, &gradient);
        let mut length = 1.0;
        let (next, then) = loop {
            let tried: [f64; N] = std::array::from_fn(|i| weights[i] - length * step[i]);
            let then = loss(rows, targets, &tried);
            if then <= now - 1e-4 * length * decrease || length < 1e-6 {
                break (tried, then);
            }
            length /= 2.0;
        };
        if then >= now {
            break;
        }
        let gained = now - then;
        (weights, now) = (next, then);
        if gained < 1e-10 {
            break;
        }
    }
    weights
}

/// Solves `matrix · x = right` by Cholesky's decomposition; only the lower half of the symmetric matrix is read.
fn solve<const N: usize>(mut matrix: [[f64; N]; N], right: [f64; N]) -> [f64; N] {
    for i in 0..N {
        for j in 0..=i {
            let sum = dot(&matrix[i][..j], &matrix[j][..j]);
            let value = matrix[i][j] - sum;
            matrix[i][j] = if i == j { value.max(1e-12).sqrt() } else { value / matrix[j][j] };
        }
    }
    let mut x = right;
    for i in 0..N {
        x[i] = (x[i] - dot(&matrix[i][..i], &x[..i])) / matrix[i][i];
    }
    for i in (0..N).rev() {
        let below: f64 = (i + 1..N).map(|k| matrix[k][i] * x[k]).sum();
        x[i] = (x[i] - below) / matrix[i][i];
    }
    x
}

#[cfg(test)]
mod tests {
    use yingda_models::Seeded;

    use super::*;

    /// Labels drawn with known weights give these weights back, whatever the features' means and spreads are.
    #[test]
    fn the_weights_that_drew_the_labels_are_found() {
        let mut truth = Ranker { entry: [0.0; ENTRY.len()], nothing: [0.0; NOTHING.len()] };
        (truth.entry[0], truth.entry[4], truth.nothing[0], truth.nothing[3]) = (8.0, 0.5, 17.0, 0.4);
        let mut random = Seeded::new(7, 0);
        let rows: Vec<Row> = (0..4000)
            .map(|_| {
                let mut entries = vec![[0.0; ENTRY.len()]; 6];
                for entry in &mut entries {
                    (entry[0], entry[4]) = (0.7 + 0.2 * random.uniform(), 10.0 * random.uniform());
                    // Says nothing.
                    entry[7] = random.uniform();
                }
                let mut nothing = [0.0; NOTHING.len()];
                (nothing[0], nothing[3]) = (1.0, -20.0 + 4.0 * random.uniform());
                let features = Features { entries, nothing };
                let mut draw = random.uniform();
                let chosen = truth.probabilities(&features).iter().position(|p| {
                    draw -= p;
                    draw < 0.0
                });
                let right = chosen.filter(|&at| at < 6).into_iter().collect();
                Row { features, right, weight: 1.0 }
            })
            .collect();
        let answered = rows.iter().filter(|row| !row.right.is_empty()).count();
        assert!((400..3600).contains(&answered), "{answered}: both kinds are needed");
        let found = fit(&rows);
        assert!(
            (found.entry[0] - 8.0).abs() < 1.5 && (found.entry[4] - 0.5).abs() < 0.1 && found.entry[7] < 0.5,
            "{found:?}"
        );
        let apart = |ranker: &Ranker| -> f64 {
            let likely = |row: &Row| *ranker.probabilities(&row.features).last().expect("nothing is always there");
            rows.iter().map(likely).sum::<f64>() / rows.len() as f64
        };
        assert!((apart(&found) - apart(&truth)).abs() < 0.02, "{} {}", apart(&found), apart(&truth));
        assert_eq!(found, fit(&rows), "the same rows must give the same weights");
    }
}
