//! Scaled dot-product attention (Vaswani et al. 2017, <https://arxiv.org/abs/1706.03762>) over texts that lie one after the
//! other without padding: every text attends to itself alone, so no mask is needed.

use std::ops::Range;

use pulp::{Arch, Simd};
use rayon::prelude::*;

use super::rows::{Dropout, softmax_row};

/// Sizes that are the same for all texts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Width of a token: `heads` times the width of a head.
    pub(crate) hidden: usize,
    pub(crate) heads: usize,
}

impl Shape {
    fn head(&self) -> usize {
        self.hidden / self.heads
    }

    /// Probabilities that are kept for the backward pass of one text: `[heads, length, length]`.
    pub(crate) fn probabilities(&self, length: usize) -> usize {
        self.heads * length * length
    }
}

/// Rounded up to whole registers.
fn padded(count: usize) -> usize {
    count.next_multiple_of(16)
}

/// One text of a batch.
#[derive(Clone, Copy)]
struct Text<'a> {
    shape: Shape,
    /// `[length, 3 hidden]`.
    qkv: &'a [f32],
    dropout: Dropout,
    /// Which of the batch it is.
    index: usize,
}

/// Splits `buffer` into one piece a text; `size` tells how long each is.
fn pieces<'a>(mut buffer: &'a mut [f32], texts: &[Range<usize>], size: impl Fn(usize) -> usize) -> Vec<&'a mut [f32]> {
    texts
        .iter()
        .map(|text| {
            let (piece, rest) = std::mem::take(&mut buffer).split_at_mut(size(text.len()));
            buffer = rest;
            piece
        })
        .collect()
}

/// From `qkv [tokens, 3 hidden]` to `out [tokens, hidden]`. `probabilities` is left with the softmax of each text and head
/// before dropout, when a backward pass will follow.
pub(crate) fn forward(
    shape: Shape,
    texts: &[Range<usize>],
    qkv: &[f32],
    dropout: Dropout,
    out: &mut [f32],
    probabilities: Option<&mut [f32]>,
) {
    let width = 3 * shape.hidden;
    let outs = pieces(out, texts, |length| length * shape.hidden);
    let work = |((index, text), out): ((usize, &Range<usize>), &mut [f32]), kept: Option<&mut [f32]>| {
        let qkv = &qkv[text.start * width..text.end * width];
        let mut scratch = vec![0f32; scratch_size(shape, text.len())];
        forward_text(Text { shape, qkv, dropout, index }, out, kept, &mut scratch);
    };
    match probabilities {
        Some(probabilities) => {
            let kept = pieces(probabilities, texts, |length| shape.probabilities(length));
            texts
                .par_iter()
                .enumerate()
                .zip(outs)
                .zip(kept)
                .for_each(|((text, out), kept)| work((text, out), Some(kept)));
        }
        None if texts.len() == 1 => texts.iter().enumerate().zip(outs).for_each(|each| work(each, None)),
        None => texts.par_iter().enumerate().zip(outs).for_each(|each| work(each, None)),
    }
}

fn scratch_size(shape: Shape, length: usize) -> usize {
    let (wide, head) = (padded(length), shape.head());
    // Keys or values turned, scores, their gradient, and two blocks of head width.
    head * wide + 2 * length * wide + 2 * length * head
}

/// Copies head columns of `rows [length, stride]` from column `from`, turned to `[head, padded length]`.
#[inline(always)]
fn turn(rows: &[f32], stride: usize, from: usize, head: usize, length: usize, out: &mut [f32]) {
    let wide = padded(length);
    for (row, values) in rows.chunks_exact(stride).enumerate().take(length) {
        for (column, value) in values[from..from + head].iter().enumerate() {
            out[column * wide + row] = *value;
        }
    }
}

/// The left side of a [`product`]: row `r` begins at `r * stride`, or, when turned, column `r` does.
#[derive(Clone, Copy)]
struct Left<'a, const TURNED: bool> {
    values: &'a [f32],
    stride: usize,
}

/// Where a [`product`] is written.
struct Out<'a> {
    values: &'a mut [f32],
    stride: usize,
    scale: f32,
}

/// `out[row, column] = scale * sum over inner of left[row, inner] * right[inner * right_stride + column]`.
#[inline(always)]
fn product<S: Simd, const TURNED: bool>(
    simd: S,
    left: Left<'_, TURNED>,
    right: &[f32],
    right_stride: usize,
    (rows, inner, columns): (usize, usize, usize),
    mut out: Out<'_>,
) {
    let lanes = S::F32_LANES;
    let mut column = 0;
    while column + 2 * lanes <= columns {
        stripe::<S, TURNED, 2>(simd, left, &right[column..], right_stride, (rows, inner), &mut out, column);
        column += 2 * lanes;
    }
    while column + lanes <= columns {
        stripe::<S, TURNED, 1>(simd, left, &right[column..], right_stride, (rows, inner), &mut out, column);
        column += lanes;
    }
    for column in column..columns {
        for row in 0..rows {
            let mut sum = 0f32;
            for k in 0..inner {
                let at = if TURNED { k * left.stride + row } else { row * left.stride + k };
                sum += left.values[at] * right[k * right_stride + column];
            }
            out.values[row * out.stride + column] = sum * out.scale;
        }
    }
}

/// A stripe of `C` registers of columns.
#[inline(always)]
fn stripe<S: Simd, const TURNED: bool, const C: usize>(
    simd: S,
    left: Left<'_, TURNED>,
    right: &[f32],
    right_stride: usize,
    (rows, inner): (usize, usize),
    out: &mut Out<'_>,
    column: usize,
) {
    let mut row = 0;
    while row + 6 <= rows {
        tile::<S, TURNED, C, 6>(simd, left, right, right_stride, (row, inner), out, column);
        row += 6;
    }
    while row + 2 <= rows {
        tile::<S, TURNED, C, 2>(simd, left, right, right_stride, (row, inner), out, column);
        row += 2;
    }
    while row < rows {
        tile::<S, TURNED, C, 1>(simd, left, right, right_stride, (row, inner), out, column);
        row += 1;
    }
}

/// `R` rows of a stripe, whose sums stay in registers.
#[inline(always)]
fn tile<S: Simd, const TURNED: bool, const C: usize, const R: usize>(
    simd: S,
    left: Left<'_, TURNED>,
    right: &[f32],
    right_stride: usize,
    (row, inner): (usize, usize),
    out: &mut Out<'_>,
    column: usize,
) {
    let lanes = S::F32_LANES;
    let mut sums = [[simd.splat_f32s(0.0); C]; R];
    let mut rows: [&[f32]; R] = [&[]; R];
    if !TURNED {
        for (index, slice) in rows.iter_mut().enumerate() {
            *slice = &left.values[(row + index) * left.stride..][..inner];
        }
    }
    for k in 0..inner {
        let (right, _) = S::as_simd_f32s(&right[k * right_stride..][..C * lanes]);
        let mut factors = [0f32; R];
        if TURNED {
            factors.copy_from_slice(&left.values[k * left.stride + row..][..R]);
        } else {
            for (factor, row) in factors.iter_mut().zip(&rows) {
                *factor = row[k];
            }
        }
        for (sums, factor) in sums.iter_mut().zip(factors) {
            let factor = simd.splat_f32s(factor);
            for (sum, right) in sums.iter_mut().zip(right) {
                *sum = simd.mul_add_e_f32s(factor, *right, *sum);
            }
        }
    }
    let scale = simd.splat_f32s(out.scale);
    for (index, sums) in sums.iter().enumerate() {
        let out = &mut out.values[(row + index) * out.stride + column..][..C * lanes];
        let (out, _) = S::as_mut_simd_f32s(out);
        for (out, sum) in out.iter_mut().zip(sums) {
            *out = simd.mul_f32s(*sum, scale);
        }
    }
}

/// Index of the first probability of a text and head in the numbering of dropout. Texts are shorter than 2^12 tokens, so
/// numbers of different heads never meet.
#[inline(always)]
fn dropout_base(text: usize, head: usize) -> u32 {
    (text as u32).wrapping_mul(0x0100_0193) ^ (head as u32).wrapping_mul(0x85eb_ca6b)
}

#[pulp::with_simd(forward_text = Arch::new())]
#[inline(always)]
fn forward_text_simd<'a, S: Simd>(
    simd: S,
    text: Text<'a>,
    out: &'a mut [f32],
    mut kept: Option<&'a mut [f32]>,
    scratch: &'a mut [f32],
) {
    let Text { shape, qkv, dropout, index: text } = text;
    let (hidden, head) = (shape.hidden, shape.head());
    let width = 3 * hidden;
    let length = out.len() / hidden;
    let wide = padded(length);
    let scale = 1.0 / (head as f32).sqrt();
    let (turned, scratch) = scratch.split_at_mut(head * wide);
    let (scores, _) = scratch.split_at_mut(length * wide);
    for index in 0..shape.heads {
        let at = index * head;
        turn(qkv, width, hidden + at, head, length, turned);
        let queries = Left::<false> { values: &qkv[at..], stride: width };
        let out_scores = Out { values: scores, stride: wide, scale };
        product(simd, queries, turned, wide, (length, head, wide), out_scores);
        for (row, scores) in scores.chunks_exact_mut(wide).enumerate() {
            let scores = &mut scores[..length];
            softmax_row(scores);
            if let Some(kept) = &mut kept {
                kept[(index * length + row) * length..][..length].copy_from_slice(scores);
            }
            if !dropout.is_off() {
                let base = dropout_base(text, index).wrapping_add((row * length) as u32);
                for (column, score) in scores.iter_mut().enumerate() {
                    *score *= dropout.factor(base.wrapping_add(column as u32));
                }
            }
        }
        let probabilities = Left::<false> { values: scores, stride: wide };
        let out = Out { values: &mut out[at..], stride: hidden, scale: 1.0 };
        product(simd, probabilities, &qkv[2 * hidden + at..], width, (length, length, head), out);
    }
}

/// The gradient of `qkv [tokens, 3 hidden]` from that of the attention's output `[tokens, hidden]`.
pub(crate) fn backward(
    shape: Shape,
    texts: &[Range<usize>],
    qkv: &[f32],
    probabilities: &[f32],
    dropout: Dropout,
    gradient: &[f32],
    out: &mut [f32],
) {
    let (hidden, width) = (shape.hidden, 3 * shape.hidden);
    let outs = pieces(out, texts, |length| length * width);
    let starts: Vec<usize> = texts
        .iter()
        .scan(0, |start, text| {
            let this = *start;
            *start += shape.probabilities(text.len());
            Some(this)
        })
        .collect();
    texts.par_iter().enumerate().zip(outs).zip(starts).for_each(|(((index, text), out), start)| {
        let mut scratch = vec![0f32; scratch_size(shape, text.len())];
        backward_text(
            Text { shape, qkv: &qkv[text.start * width..text.end * width], dropout, index },
            &probabilities[start..][..shape.probabilities(text.len())],
            &gradient[text.start * hidden..text.end * hidden],
            out,
            &mut scratch,
        );
    });
}

#[pulp::with_simd(backward_text = Arch::new())]
#[inline(always)]
fn backward_text_simd<'a, S: Simd>(
    simd: S,
    text: Text<'a>,
    kept: &'a [f32],
    gradient: &'a [f32],
    out: &'a mut [f32],
    scratch: &'a mut [f32],
) {
    let Text { shape, qkv, dropout, index: text } = text;
    let (hidden, head) = (shape.hidden, shape.head());
    let width = 3 * hidden;
    let length = gradient.len() / hidden;
    let wide = padded(length);
    let scale = 1.0 / (head as f32).sqrt();
    let (turned, scratch) = scratch.split_at_mut(head * wide);
    let (slopes, scratch) = scratch.split_at_mut(length * wide);
    let (dropped, _) = scratch.split_at_mut(length * wide);
    for index in 0..shape.heads {
        let at = index * head;
        let kept = &kept[index * length * length..][..length * length];
        // Gradient of the probabilities after dropout: gradient times values turned.
        turn(qkv, width, 2 * hidden + at, head, length, turned);
        let upstream = Left::<false> { values: &gradient[at..], stride: hidden };
        let out_slopes = Out { values: slopes, stride: wide, scale: 1.0 };
        product(simd, upstream, turned, wide, (length, head, wide), out_slopes);
        for row in 0..length {
            let kept = &kept[row * length..][..length];
            let slopes = &mut slopes[row * wide..][..length];
            let dropped = &mut dropped[row * wide..][..length];
            if dropout.is_off() {
                dropped.copy_from_slice(kept);
            } else {
                let base = dropout_base(text, index).wrapping_add((row * length) as u32);
                for (column, ((slope, dropped), kept)) in
                    slopes.iter_mut().zip(dropped.iter_mut()).zip(kept).enumerate()
                {
                    let factor = dropout.factor(base.wrapping_add(column as u32));
                    *dropped = kept * factor;
                    *slope *= factor;
                }
            }
            let mut mean = 0f32;
            for (slope, kept) in slopes.iter().zip(kept) {
                mean += slope * kept;
            }
            for (slope, kept) in slopes.iter_mut().zip(kept) {
                *slope = (*slope - mean) * kept;
            }
        }
        let size = (length, length, head);
        // Values: probabilities turned, times gradient.
        let left = Left::<true> { values: dropped, stride: wide };
        let values = Out { values: &mut out[2 * hidden + at..], stride: width, scale: 1.0 };
        product(simd, left, &gradient[at..], hidden, size, values);
        // Queries: slopes times keys.
        let left = Left::<false> { values: slopes, stride: wide };
        let queries = Out { values: &mut out[at..], stride: width, scale };
        product(simd, left, &qkv[hidden + at..], width, size, queries);
        // Keys: slopes turned, times queries.
        let left = Left::<true> { values: slopes, stride: wide };
        let keys = Out { values: &mut out[hidden + at..], stride: width, scale };
        product(simd, left, &qkv[at..], width, size, keys);
    }
}
