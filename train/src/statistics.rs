//! McNemar's test, and intervals from resampled sessions.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use yingda_models::{Seeded, binomial_at_most};

/// How often sessions are drawn anew for an interval.
pub const RESAMPLES: usize = 1_000;

/// Intervals do not depend on the run that they judge, so their seed is fixed.
const SEED: u64 = 95;

/// A figure with the interval that holds it with 95 % confidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// 2.5th percentile.
    pub low: f64,
    /// 97.5th percentile.
    pub high: f64,
}

/// McNemar's exact test (1947): how likely are discordant rows as uneven as these, or more so, between two models that are
/// right equally often? Two-sided.
pub fn exact_mcnemar(only_first: usize, only_second: usize) -> f64 {
    let (least, all) = (only_first.min(only_second) as f64, (only_first + only_second) as f64);
    (2.0 * binomial_at_most(least, all, 0.5)).min(1.0)
}

/// Row indices of each session, sessions in the order in which they begin.
pub fn rows_by_session<'a>(ids: impl IntoIterator<Item = &'a str>) -> Vec<Vec<usize>> {
    let mut known = BTreeMap::new();
    let mut sessions: Vec<Vec<usize>> = Vec::new();
    for (row, id) in ids.into_iter().enumerate() {
        let session = *known.entry(id).or_insert(sessions.len());
        if session == sessions.len() {
            sessions.push(Vec::new());
        }
        sessions[session].push(row);
    }
    sessions
}

/// Percentile intervals (Efron and Tibshirani 1993, chapter 13) of the figures that `measure` takes of a resample.
///
/// Whole sessions are drawn with replacement, because the messages of one session are not independent (the cluster bootstrap;
/// Field and Welsh 2007). `measure` gets the numbers of the drawn sessions, as many as there are.
pub fn bootstrap<const N: usize>(sessions: usize, measure: impl Fn(&[usize]) -> [f64; N] + Sync) -> [Interval; N] {
    if sessions == 0 {
        return [Interval::default(); N];
    }
    let resamples: Vec<[f64; N]> = (0..RESAMPLES as u64)
        .into_par_iter()
        .map(|stream| {
            let mut generator = Seeded::new(SEED, stream);
            let drawn: Vec<usize> = (0..sessions).map(|_| generator.below(sessions)).collect();
            measure(&drawn)
        })
        .collect();
    std::array::from_fn(|figure| {
        let mut values: Vec<f64> = resamples.iter().map(|resample| resample[figure]).collect();
        values.sort_by(f64::total_cmp);
        Interval { low: percentile(&values, 0.025), high: percentile(&values, 0.975) }
    })
}

/// A percentile of sorted values, with a straight line between neighbours (numpy's default).
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let position = share * (sorted.len() - 1) as f64;
    let (below, rest) = (position.floor() as usize, position.fract());
    let above = (below + 1).min(sorted.len() - 1);
    sorted[below] + (sorted[above] - sorted[below]) * rest
}

/// Counts that accuracy and F1 are made from.
#[derive(Clone, Debug)]
pub struct Tally {
    /// For each class: rows that are of it and were said to be, rows that are of it, rows that were said to be of it.
    classes: Vec<[usize; 3]>,
    right: usize,
    rows: usize,
}

impl Tally {
    /// Nothing counted yet.
    pub fn new(classes: usize) -> Self {
        Self { classes: vec![[0; 3]; classes], right: 0, rows: 0 }
    }

    /// Counts rows `(gold, predicted)`.
    pub fn of(classes: usize, rows: impl IntoIterator<Item = (usize, usize)>) -> Self {
        let mut tally = Self::new(classes);
        rows.into_iter().for_each(|(gold, predicted)| tally.add(gold, predicted));
        tally
    }

    /// Counts one row.
    pub fn add(&mut self, gold: usize, predicted: usize) {
        self.rows += 1;
        self.classes[gold][1] += 1;
        self.classes[predicted][2] += 1;
        if gold == predicted {
            self.right += 1;
            self.classes[gold][0] += 1;
        }
    }

    /// Share of right rows; 0 without rows.
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.rows.max(1) as f64
    }

    /// F1 of a class.
    pub fn f1(&self, class: usize) -> f64 {
        let [hits, gold, said] = self.classes[class];
        2.0 * hits as f64 / (gold + said).max(1) as f64
    }

    /// Rows of a class.
    pub fn support(&self, class: usize) -> usize {
        self.classes[class][1]
    }

    /// Mean F1 over the classes that have rows; 0 without rows.
    pub fn macro_f1(&self) -> f64 {
        let present = (0..self.classes.len()).filter(|&class| self.support(class) > 0);
        let (sum, count) = present.fold((0.0, 0), |sum, class| (sum.0 + self.f1(class), sum.1 + 1));
        sum / f64::from(count.max(1))
    }
}

/// Mean, and from two values on the sample standard deviation.
pub(crate) fn mean_and_deviation(scores: &[f64]) -> (Option<f64>, Option<f64>) {
    if scores.is_empty() {
        return (None, None);
    }
    let count = scores.len() as f64;
    let mean = scores.iter().sum::<f64>() / count;
    let squares: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
    (Some(mean), (scores.len() > 1).then(|| (squares / (count - 1.0)).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * b.abs()
    }

    /// `scipy.stats.binomtest(min(b, c), b + c, 0.5).pvalue`.
    #[test]
    fn mcnemar_agrees_with_scipy() {
        for (b, c, expected) in [
            (3, 12, 0.035_156_25),
            (10, 10, 1.0),
            (0, 6, 0.031_25),
            (120, 80, 0.005_685_155_996_750_305_5),
            (0, 0, 1.0),
        ] {
            assert!(close(exact_mcnemar(b, c), expected), "{b} {c}: {}", exact_mcnemar(b, c));
        }
    }

    #[test]
    fn percentiles_are_numpys_and_intervals_repeat() {
        // np.percentile([1, 2, 4, 8], [2.5, 50, 97.5]) is [1.075, 3.0, 7.7].
        let values = [1.0, 2.0, 4.0, 8.0];
        assert!(close(percentile(&values, 0.025), 1.075) && close(percentile(&values, 0.975), 7.7));
        assert!(close(percentile(&values, 0.5), 3.0));

        // The mean of 400 zeros and ones, half and half: the interval is 0.5 ± 1.96 · sqrt(0.25 / 400) = ± 0.049.
        let measure = |drawn: &[usize]| [drawn.iter().map(|&row| (row % 2) as f64).sum::<f64>() / drawn.len() as f64];
        let [found] = bootstrap(400, measure);
        assert!((found.low - 0.451).abs() < 0.008 && (found.high - 0.549).abs() < 0.008, "{found:?}");
        assert_eq!([found], bootstrap(400, measure));

        // Twenty sessions whose rows are all alike: resampling sessions sees how little that is.
        let ids: Vec<String> = (0..400).map(|row| format!("s{}", row / 20)).collect();
        let sessions = rows_by_session(ids.iter().map(String::as_str));
        let [wide] = bootstrap(sessions.len(), |drawn| {
            let rows = drawn.iter().flat_map(|&session| &sessions[session]);
            [rows.map(|&row| ((row / 20) % 2) as f64).sum::<f64>() / 400.0]
        });
        assert!(wide.high - wide.low > 3.0 * (found.high - found.low), "{wide:?}");
    }

    #[test]
    fn rows_are_gathered_by_session() {
        assert_eq!(rows_by_session(["b", "a", "b", "c"]), [vec![0, 2], vec![1], vec![3]]);
        assert!(rows_by_session([]).is_empty());
    }
}
