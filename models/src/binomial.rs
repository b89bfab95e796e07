//! The exact binomial tail.

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

#[cfg(test)]
mod tests {
    use super::*;

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
            assert!(
                (found - expected).abs() <= 1e-9 * expected.max(1e-3),
                "{hits} of {trials} at {rate}: {found} and not {expected}"
            );
        }
    }
}
