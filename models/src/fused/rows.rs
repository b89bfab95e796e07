//! Row-wise operations with their backward passes, written as plain loops that the compiler vectorises for the best
//! instruction set of the machine it runs on (through [`pulp`], so without unsafe code).
//!
//! Sums are taken in an order that does not depend on the number of threads.

use pulp::{Arch, Simd};
use rayon::prelude::*;

/// Rows that one task works on. Sums over rows are made block by block and then in order, so the number of threads does not
/// change a result.
pub(crate) const BLOCK: usize = 32;

/// Below this many numbers the work is not worth handing to other threads.
const SMALL: usize = 1 << 14;

/// Lanes of the running sums: two registers of AVX-512.
const LANES: usize = 32;

/// The sum of `f` over two equally long rows, in lanes.
#[inline(always)]
fn sum2(a: &[f32], b: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for lane in 0..LANES {
            lanes[lane] += f(a[lane], b[lane]);
        }
    }
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    a_rest.iter().zip(b_rest).fold(lanes[0], |sum, (&a, &b)| sum + f(a, b))
}

#[inline(always)]
fn sum1(a: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    sum2(a, a, |a, _| f(a))
}

/// `exp(x)` by range reduction and a polynomial (Cephes, <https://www.netlib.org/cephes/>); relative error below 2e-7.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    let x = x.clamp(-87.0, 88.0);
    // Adding 1.5 * 2^23 rounds to a whole number, which is then found in the low bits.
    let shifted = x * std::f32::consts::LOG2_E + 12_582_912.0;
    let whole = shifted - 12_582_912.0;
    let r = x - whole * 0.693_359_4 + whole * 2.121_944_4e-4;
    let p = ((((1.987_569_1e-4 * r + 1.398_199_9e-3) * r + 8.333_452e-3) * r + 4.166_579_6e-2) * r + 0.166_666_65) * r
        + 0.5;
    let value = p * r * r + r + 1.0;
    let power = f32::from_bits(shifted.to_bits().wrapping_sub(0x4b40_0000).wrapping_add(127) << 23);
    value * power
}

/// The standard normal distribution at `x`, as (cumulative probability, density).
///
/// erf is formula 7.1.26 of Abramowitz and Stegun (error below 1.5e-7), which needs the density's exponential anyway.
#[inline(always)]
fn normal(x: f32) -> (f32, f32) {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let e = exp(-z * z);
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let tail =
        ((((1.061_405_4 * t - 1.453_152_1) * t + 1.421_413_8) * t - 0.284_496_72) * t + 0.254_829_6) * t * e * 0.5;
    let cumulative = if x < 0.0 { tail } else { 1.0 - tail };
    (cumulative, e * 0.398_942_3)
}

/// Which numbers dropout removes: a function of the seed, the place in the network and the index, so that the backward pass
/// makes the same mask again and nothing is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropout {
    seed: u32,
    /// A number is dropped when its hash is below.
    bar: u32,
    keep: f32,
}

impl Dropout {
    /// Dropout with `probability` at place `site` of a step with `seed`.
    pub(crate) fn new(probability: f64, seed: u64, site: u32) -> Self {
        let bar = (probability * f64::from(u32::MAX)) as u32;
        let mixed = (seed ^ (seed >> 32)) as u32 ^ site.wrapping_mul(0x9e37_79b9);
        Self { seed: hash(mixed), bar, keep: (1.0 / (1.0 - probability)) as f32 }
    }

    pub(crate) fn is_off(&self) -> bool {
        self.bar == 0
    }

    /// What number `index` is multiplied with: 0, or `1 / (1 - probability)`.
    #[inline(always)]
    pub(crate) fn factor(&self, index: u32) -> f32 {
        if hash(index.wrapping_mul(0x9e37_79b1) ^ self.seed) < self.bar { 0.0 } else { self.keep }
    }
}

/// The finaliser of MurmurHash3 (Appleby, public domain): every input bit changes every output bit about half the time.
#[inline(always)]
fn hash(x: u32) -> u32 {
    let x = (x ^ (x >> 16)).wrapping_mul(0x85eb_ca6b);
    let x = (x ^ (x >> 13)).wrapping_mul(0xc2b2_ae35);
    x ^ (x >> 16)
}

/// Runs `work(first row, rows of out)` over blocks of `out`, on several threads when there is enough of it.
pub(crate) fn by_block(out: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    if out.len() < SMALL {
        out.chunks_mut(width * BLOCK).enumerate().for_each(|(block, rows)| work(block * BLOCK, rows));
    } else {
        out.par_chunks_mut(width * BLOCK).enumerate().for_each(|(block, rows)| work(block * BLOCK, rows));
    }
}

/// Adds the column sums of `rows [_, width]` to `sums [width]`.
pub(crate) fn add_column_sums(sums: &mut [f32], rows: &[f32]) {
    let width = sums.len();
    let partial = |block: &[f32]| {
        let mut partial = vec![0f32; width];
        column_sums(&mut partial, block);
        partial
    };
    let partials: Vec<Vec<f32>> = if rows.len() < SMALL {
        rows.chunks(width * BLOCK).map(partial).collect()
    } else {
        rows.par_chunks(width * BLOCK).map(partial).collect()
    };
    partials.iter().for_each(|partial| add(sums, partial));
}

#[pulp::with_simd(column_sums = Arch::new())]
#[inline(always)]
fn column_sums_simd<'a, S: Simd>(_simd: S, sums: &'a mut [f32], rows: &'a [f32]) {
    for row in rows.chunks_exact(sums.len()) {
        for (sum, value) in sums.iter_mut().zip(row) {
            *sum += value;
        }
    }
}

/// `a += b`.
#[pulp::with_simd(add = Arch::new())]
#[inline(always)]
pub(crate) fn add_simd<'a, S: Simd>(_simd: S, a: &'a mut [f32], b: &'a [f32]) {
    for (a, b) in a.iter_mut().zip(b) {
        *a += b;
    }
}

/// Scale and shift of a layer norm (Ba et al. 2016, <https://arxiv.org/abs/1607.06450>).
#[derive(Clone, Copy)]
pub(crate) struct Norm<'a> {
    pub(crate) weight: &'a [f32],
    pub(crate) bias: &'a [f32],
    pub(crate) epsilon: f32,
}

/// `out = norm(dropout(x) + residual)`; `normal` is left with the normalised rows and `inverse` with one over their
/// deviation, which the backward pass needs. Without a residual, `x` is normed as it is and dropout does not apply.
pub(crate) fn norm_forward(
    norm: Norm<'_>,
    x: &[f32],
    residual: Option<&[f32]>,
    dropout: Dropout,
    out: &mut [f32],
    saved: Option<(&mut [f32], &mut [f32])>,
) {
    let width = norm.weight.len();
    let rows = |first: usize, count: usize| first * width..(first + count) * width;
    match saved {
        None => by_block(out, width, |first, out| {
            let range = rows(first, out.len() / width);
            norm_rows(norm, &x[range.clone()], residual.map(|r| (&r[range], dropout)), first, out, None);
        }),
        Some((normal, inverse)) => {
            // Three outputs: the inverse deviations are few and follow from the same pass.
            let blocks = out
                .par_chunks_mut(width * BLOCK)
                .zip(normal.par_chunks_mut(width * BLOCK))
                .zip(inverse.par_chunks_mut(BLOCK))
                .enumerate();
            blocks.for_each(|(block, ((out, normal), inverse))| {
                let first = block * BLOCK;
                let range = rows(first, out.len() / width);
                let residual = residual.map(|r| (&r[range.clone()], dropout));
                norm_rows(norm, &x[range], residual, first, out, Some((normal, inverse)));
            });
        }
    }
}

#[pulp::with_simd(norm_rows = Arch::new())]
#[inline(always)]
fn norm_rows_simd<'a, S: Simd>(
    _simd: S,
    norm: Norm<'a>,
    x: &'a [f32],
    residual: Option<(&'a [f32], Dropout)>,
    first: usize,
    out: &'a mut [f32],
    mut saved: Option<(&'a mut [f32], &'a mut [f32])>,
) {
    let width = norm.weight.len();
    for (row, out) in out.chunks_exact_mut(width).enumerate() {
        let range = row * width..(row + 1) * width;
        let x = &x[range.clone()];
        match residual {
            None => out.copy_from_slice(x),
            Some((residual, dropout)) if dropout.is_off() => {
                for ((out, x), r) in out.iter_mut().zip(x).zip(&residual[range.clone()]) {
                    *out = x + r;
                }
            }
            Some((residual, dropout)) => {
                let base = ((first + row) * width) as u32;
                for (index, ((out, x), r)) in out.iter_mut().zip(x).zip(&residual[range.clone()]).enumerate() {
                    *out = x * dropout.factor(base.wrapping_add(index as u32)) + r;
                }
            }
        }
        let scale = 1.0 / width as f32;
        let mean = sum1(out, |x| x) * scale;
        let variance = sum1(out, |x| (x - mean) * (x - mean)) * scale;
        let inverse = 1.0 / (variance + norm.epsilon).sqrt();
        if let Some((normal, inverses)) = &mut saved {
            inverses[row] = inverse;
            for ((out, normal), (weight, bias)) in
                out.iter_mut().zip(&mut normal[range]).zip(norm.weight.iter().zip(norm.bias))
            {
                *normal = (*out - mean) * inverse;
                *out = *normal * weight + bias;
            }
        } else {
            for (out, (weight, bias)) in out.iter_mut().zip(norm.weight.iter().zip(norm.bias)) {
                *out = (*out - mean) * inverse * weight + bias;
            }
        }
    }
}

/// The gradient of the norm's input from that of its output, in place in `gradient`; the gradients of scale and shift are
/// added to `weight` and `bias`.
pub(crate) fn norm_backward(
    norm_weight: &[f32],
    normal: &[f32],
    inverse: &[f32],
    gradient: &mut [f32],
    weight: &mut [f32],
    bias: &mut [f32],
) {
    let width = norm_weight.len();
    let partials: Vec<Vec<f32>> = gradient
        .par_chunks_mut(width * BLOCK)
        .zip(normal.par_chunks(width * BLOCK))
        .zip(inverse.par_chunks(BLOCK))
        .map(|((gradient, normal), inverse)| {
            let mut sums = vec![0f32; 2 * width];
            norm_backward_rows(norm_weight, normal, inverse, gradient, &mut sums);
            sums
        })
        .collect();
    for partial in &partials {
        add(weight, &partial[..width]);
        add(bias, &partial[width..]);
    }
}

#[pulp::with_simd(norm_backward_rows = Arch::new())]
#[inline(always)]
fn norm_backward_rows_simd<'a, S: Simd>(
    _simd: S,
    norm_weight: &'a [f32],
    normal: &'a [f32],
    inverse: &'a [f32],
    gradient: &'a mut [f32],
    sums: &'a mut [f32],
) {
    let width = norm_weight.len();
    let (weight_sum, bias_sum) = sums.split_at_mut(width);
    for ((gradient, normal), inverse) in gradient.chunks_exact_mut(width).zip(normal.chunks_exact(width)).zip(inverse) {
        for ((sum, g), n) in weight_sum.iter_mut().zip(gradient.iter()).zip(normal) {
            *sum += g * n;
        }
        for ((sum, g), w) in bias_sum.iter_mut().zip(gradient.iter_mut()).zip(norm_weight) {
            *sum += *g;
            *g *= w;
        }
        let scale = 1.0 / width as f32;
        let mean = sum1(gradient, |g| g) * scale;
        let mean_normal = sum2(gradient, normal, |g, n| g * n) * scale;
        for (g, n) in gradient.iter_mut().zip(normal) {
            *g = (*g - mean - n * mean_normal) * inverse;
        }
    }
}

/// `out = x * dropout`, of rows or anything else that is numbered alike.
pub(crate) fn dropout_forward(x: &[f32], dropout: Dropout, out: &mut [f32]) {
    by_block(out, 1024, |first, out| {
        let start = first * 1024;
        let len = out.len();
        dropout_rows(&x[start..start + len], dropout, start, out);
    });
}

#[pulp::with_simd(dropout_rows = Arch::new())]
#[inline(always)]
fn dropout_rows_simd<'a, S: Simd>(_simd: S, x: &'a [f32], dropout: Dropout, start: usize, out: &'a mut [f32]) {
    for (index, (out, x)) in out.iter_mut().zip(x).enumerate() {
        *out = x * dropout.factor((start + index) as u32);
    }
}

/// The activation between the two products of a feed-forward block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `x Φ(x)` (Hendrycks and Gimpel 2016, <https://arxiv.org/abs/1606.08415>).
    Gelu,
    /// Its approximation by tanh.
    GeluApproximate,
    /// `max(x, 0)`.
    Relu,
}

/// `out = activation(x)`.
pub(crate) fn activation_forward(activation: Activation, x: &[f32], out: &mut [f32]) {
    by_block(out, 1024, |first, out| {
        let start = first * 1024;
        let len = out.len();
        activate(activation, &x[start..start + len], out);
    });
}

/// `x = activation(x)`.
pub(crate) fn activation_in_place(activation: Activation, x: &mut [f32]) {
    by_block(x, 1024, |_, x| activate_in_place(activation, x));
}

/// `gradient *= activation'(x)`.
pub(crate) fn activation_backward(activation: Activation, x: &[f32], gradient: &mut [f32]) {
    by_block(gradient, 1024, |first, gradient| {
        let start = first * 1024;
        let len = gradient.len();
        activate_backward(activation, &x[start..start + len], gradient);
    });
}

/// `(tanh(u), du/dx)` of the tanh approximation.
#[inline(always)]
fn approximate(x: f32) -> (f32, f32) {
    const ROOT: f32 = 0.797_884_6;
    let inner = ROOT * (x + 0.044_715 * x * x * x);
    let tanh = 1.0 - 2.0 / (exp(2.0 * inner) + 1.0);
    (tanh, ROOT * (1.0 + 3.0 * 0.044_715 * x * x))
}

#[inline(always)]
fn activated(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Gelu => x * normal(x).0,
        Activation::GeluApproximate => 0.5 * x * (1.0 + approximate(x).0),
        Activation::Relu => x.max(0.0),
    }
}

#[pulp::with_simd(activate = Arch::new())]
#[inline(always)]
fn activate_simd<'a, S: Simd>(_simd: S, activation: Activation, x: &'a [f32], out: &'a mut [f32]) {
    // One loop per kind, or the choice would stand inside the loop and nothing would be vectorised.
    match activation {
        Activation::Gelu => out.iter_mut().zip(x).for_each(|(out, &x)| *out = activated(Activation::Gelu, x)),
        Activation::GeluApproximate => {
            out.iter_mut().zip(x).for_each(|(out, &x)| *out = activated(Activation::GeluApproximate, x));
        }
        Activation::Relu => out.iter_mut().zip(x).for_each(|(out, &x)| *out = activated(Activation::Relu, x)),
    }
}

#[pulp::with_simd(activate_in_place = Arch::new())]
#[inline(always)]
fn activate_in_place_simd<S: Simd>(_simd: S, activation: Activation, x: &mut [f32]) {
    match activation {
        Activation::Gelu => x.iter_mut().for_each(|x| *x = activated(Activation::Gelu, *x)),
        Activation::GeluApproximate => x.iter_mut().for_each(|x| *x = activated(Activation::GeluApproximate, *x)),
        Activation::Relu => x.iter_mut().for_each(|x| *x = activated(Activation::Relu, *x)),
    }
}

#[pulp::with_simd(activate_backward = Arch::new())]
#[inline(always)]
fn activate_backward_simd<'a, S: Simd>(_simd: S, activation: Activation, x: &'a [f32], gradient: &'a mut [f32]) {
    match activation {
        Activation::Gelu => {
            for (g, &x) in gradient.iter_mut().zip(x) {
                let (cumulative, density) = normal(x);
                *g *= cumulative + x * density;
            }
        }
        Activation::GeluApproximate => {
            for (g, &x) in gradient.iter_mut().zip(x) {
                let (tanh, slope) = approximate(x);
                *g *= 0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * slope;
            }
        }
        Activation::Relu => {
            for (g, &x) in gradient.iter_mut().zip(x) {
                *g = if x > 0.0 { *g } else { 0.0 };
            }
        }
    }
}

/// Softmax of a row in place; returns the logarithm of the sum of exponentials.
#[inline(always)]
pub(crate) fn softmax_row(row: &mut [f32]) -> f32 {
    let mut lanes = [f32::MIN; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = if chunk[lane] > lanes[lane] { chunk[lane] } else { lanes[lane] };
        }
    }
    let top = lanes.iter().chain(rest).fold(f32::MIN, |top, &x| if x > top { x } else { top });
    for x in row.iter_mut() {
        *x = exp(*x - top);
    }
    let sum = sum1(row, |x| x);
    let scale = 1.0 / sum;
    for x in row.iter_mut() {
        *x *= scale;
    }
    top + sum.ln()
}

/// Cross-entropy of each row of logits `[targets, classes]`, in nats; the row becomes the gradient of its loss times `weight`:
/// probabilities less the target.
pub(crate) fn cross_entropy_rows(logits: &mut [f32], targets: &[u32], weight: f32) -> Vec<f32> {
    let width = logits.len() / targets.len().max(1);
    logits
        .par_chunks_mut(width)
        .zip(targets)
        .map(|(row, &target)| cross_entropy_row(row, target as usize, weight))
        .collect()
}

#[pulp::with_simd(cross_entropy_row = Arch::new())]
#[inline(always)]
fn cross_entropy_row_simd<S: Simd>(_simd: S, row: &mut [f32], target: usize, weight: f32) -> f32 {
    let logit = row[target];
    let log_sum = softmax_row(row);
    row[target] -= 1.0;
    for x in row.iter_mut() {
        *x *= weight;
    }
    log_sum - logit
}

/// What 0 becomes in a quantized row.
pub(crate) const QUANTIZED_ZERO: u8 = 128;

/// Quantizes a row to `1..=255` around [`QUANTIZED_ZERO`] and returns the scale.
#[pulp::with_simd(quantize = Arch::new())]
#[inline(always)]
pub(crate) fn quantize_simd<'a, S: Simd>(_simd: S, row: &'a [f32], out: &'a mut [u8]) -> f32 {
    let mut high = [0f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            let size = chunk[lane].abs();
            high[lane] = if size > high[lane] { size } else { high[lane] };
        }
    }
    let high = high.iter().chain(rest).fold(0f32, |high, x| if x.abs() > high { x.abs() } else { high });
    let scale = (high / 127.0).max(1e-12);
    let inverse = 1.0 / scale;
    for (out, x) in out.iter_mut().zip(row) {
        // Half is added and the rest cut off, which rounds what is not negative.
        *out = (x * inverse + (f32::from(QUANTIZED_ZERO) + 0.5)).clamp(0.0, 255.0) as u8;
    }
    scale
}

/// `out = sums * scale * scales + bias`.
#[pulp::with_simd(dequantize = Arch::new())]
#[inline(always)]
pub(crate) fn dequantize_simd<'a, S: Simd>(
    _simd: S,
    sums: &'a [i32],
    scale: f32,
    scales: &'a [f32],
    bias: &'a [f32],
    out: &'a mut [f32],
) {
    for ((out, sum), (column, bias)) in out.iter_mut().zip(sums).zip(scales.iter().zip(bias)) {
        *out = *sum as f32 * (scale * column) + bias;
    }
}
