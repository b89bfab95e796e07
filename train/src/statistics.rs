//! Exact binomial tails, and intervals from resampled sessions.

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use yingda_models::Seeded;

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

/// `ln Γ(x)` for x > 0: Lanczos' approximation (1964) with g = 7 and nine terms.
fn ln_gamma(x: f64) -> f64 {
    const TERMS: [f64; 9] = [
        0.999_999_999_999_809_9,
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    if x < 0.5 {
        return ln_gamma(x + 1.0) - x.ln();
    }
    let x = x - 1.0;
    let sum = TERMS.iter().enumerate().skip(1).fold(TERMS[0], |sum, (index, term)| sum + term / (x + index as f64));
    let t = x + 7.5;
    0.5 * std::f64::consts::TAU.ln() + (x + 0.5) * t.ln() - t + sum.ln()
}

/// The regularised incomplete beta function `I_x(a, b)` by its continued fraction (Lentz's method; DLMF 8.17.22).
fn incomplete_beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 || x >= 1.0 {
        return x.clamp(0.0, 1.0);
    }
    // The fraction converges fast on this side of the mean.
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - incomplete_beta(1.0 - x, b, a);
    }
    let front = (ln_gamma(a + b) - ln_gamma(a) - ln_gamma(b) + a * x.ln() + b * (-x).ln_1p()).exp() / a;
    let away_from_zero = |value: f64| if value.abs() < 1e-300 { 1e-300 } else { value };
    let (mut c, mut d) = (1.0, 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0)));
    let mut fraction = d;
    for step in 1..100_000 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut change = 1.0;
        for term in [even, odd] {
            d = 1.0 / away_from_zero(1.0 + term * d);
            c = away_from_zero(1.0 + term / c);
            change *= c * d;
        }
        fraction *= change;
        if (change - 1.0).abs() < 1e-15 {
            break;
        }
    }
    (front * fraction).min(1.0)
}

/// The probability of at most `hits` of `trials` at `rate` each: the exact binomial tail, which also goes on between whole numbers.
///
/// It is `I_{1-rate}(trials - hits, hits + 1)`, the function behind Clopper and Pearson's bounds (1934).
pub fn binomial_at_most(hits: f64, trials: f64, rate: f64) -> f64 {
    if hits >= trials { 1.0 } else { incomplete_beta(1.0 - rate, trials - hits, hits + 1.0) }
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

    /// `scipy.stats.binom.cdf(hits, trials, rate)`, and between whole numbers
    /// `scipy.special.betainc(trials - hits, hits + 1, 1 - rate)`.
    #[test]
    fn tails_agree_with_scipy() {
        for (hits, trials, rate, expected) in [
            (0.0, 148.0, 0.02, 0.050_287_402_377_642_45),
            (0.0, 149.0, 0.02, 0.049_281_654_330_089_6),
            (3.0, 500.0, 0.02, 0.009_812_155_535_351_14),
            (12.0, 1000.0, 0.02, 0.037_604_810_397_184_885),
            (150.0, 10_000.0, 0.02, 0.000_114_885_773_341_175_06),
            (40.0, 600.0, 0.05, 0.971_167_319_341_039_5),
            (7.0, 20.0, 0.5, 0.131_587_982_177_734_38),
            (499.0, 500.0, 0.02, 1.0),
            (5.0, 5.0, 0.02, 1.0),
            (2.5, 310.7, 0.02, 0.085_175_459_175_443_45),
            (0.4, 203.3, 0.05, 0.000_089_185_657_994_232_31),
        ] {
            let found = binomial_at_most(hits, trials, rate);
            assert!(close(found, expected), "{hits} of {trials} at {rate}: {found} and not {expected}");
        }
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
