//! Matrix products by [`rten_gemm`], whose kernels are chosen at run time and whose packed weights serve every later call.

use rayon::prelude::*;
use rten_gemm::{BiasVector, GemmExecutor, GemmInputA, GemmInputB, GemmOptions, PackedBMatrix, QuantParams};
use rten_tensor::NdTensorView;

use super::rows;

// An executor only names the kernels that this machine can run; it cannot be sent between threads.
thread_local! {
    static F32: GemmExecutor<f32, f32, f32> = GemmExecutor::default();
    static INT8: GemmExecutor<u8, i8, i32> = GemmExecutor::default();
}

const FITS: &str = "the sizes were checked when the weights were taken";

/// The weight of a linear layer, `[output, input]`.
pub(crate) enum Weight<'a> {
    /// As it lies in the variable.
    Plain(&'a [f32]),
    /// Packed once, for serving.
    Packed(&'a PackedBMatrix<f32>),
    /// 8-bit, for serving.
    Int8(&'a Int8Weight),
}

/// `x Wᵀ + b`.
pub(crate) struct Linear<'a> {
    pub(crate) weight: Weight<'a>,
    pub(crate) bias: &'a [f32],
    pub(crate) input: usize,
}

/// A weight in 8 bits with one scale an output row, symmetric around 0.
pub(crate) struct Int8Weight {
    packed: PackedBMatrix<i8>,
    scales: Vec<f32>,
    zeros: Vec<i8>,
}

/// Packs `weight [output, input]` for use as `Wᵀ`.
pub(crate) fn pack(weight: &[f32], output: usize, input: usize) -> PackedBMatrix<f32> {
    F32.with(|gemm| gemm.prepack_b(NdTensorView::from_data([output, input], weight).transposed()))
}

impl Int8Weight {
    /// Quantizes `weight [output, input]`.
    pub(crate) fn new(weight: &[f32], output: usize, input: usize) -> Self {
        // Without VNNI the kernels add pairs of products in 16 bits, which holds 7-bit weights only.
        let largest = if INT8.with(GemmExecutor::may_saturate) { 63.0 } else { 127.0 };
        let mut values = Vec::with_capacity(weight.len());
        let mut scales = Vec::with_capacity(output);
        for row in weight.chunks_exact(input) {
            let top = row.iter().fold(0f32, |top, value| top.max(value.abs())).max(1e-12);
            let scale = top / largest;
            scales.push(scale);
            values.extend(row.iter().map(|value| (value / scale).round() as i8));
        }
        let values = NdTensorView::from_data([output, input], values.as_slice());
        let packed = INT8.with(|gemm| gemm.prepack_b(values.transposed()));
        Self { packed, scales, zeros: vec![0; output] }
    }
}

impl Linear<'_> {
    /// `out [rows, output] = x [rows, input] Wᵀ + b`.
    pub(crate) fn forward(&self, x: &[f32], out: &mut [f32]) {
        let output = self.bias.len();
        let rows = out.len() / output.max(1);
        let weight = match self.weight {
            Weight::Plain(weight) => {
                GemmInputB::Unpacked(NdTensorView::from_data([output, self.input], weight).transposed())
            }
            Weight::Packed(weight) => GemmInputB::Packed(weight),
            Weight::Int8(weight) => return self.forward_int8(weight, x, rows, out),
        };
        let x = GemmInputA::Unpacked(NdTensorView::from_data([rows, self.input], x));
        let options = GemmOptions { bias: Some(BiasVector::Row(self.bias)), ..GemmOptions::default() };
        F32.with(|gemm| gemm.gemm(out, x, weight, options)).expect(FITS);
    }

    /// Every row of `x` is quantized by its own largest number (dynamic quantization). All rows have one zero: `rten_gemm` 0.27
    /// gives wrong sums for rows that differ in it.
    fn forward_int8(&self, weight: &Int8Weight, x: &[f32], rows: usize, out: &mut [f32]) {
        let mut quantized = vec![0u8; x.len()];
        let mut scales = vec![0f32; rows];
        let zeros = vec![rows::QUANTIZED_ZERO; rows];
        x.par_chunks_exact(self.input)
            .zip(quantized.par_chunks_exact_mut(self.input))
            .zip(&mut scales)
            .with_min_len(rows::BLOCK)
            .for_each(|((row, quantized), scale)| *scale = rows::quantize(row, quantized));
        let output = self.bias.len();
        let mut sums = vec![0i32; rows * output];
        let options = GemmOptions {
            a_quant: Some(QuantParams { zero_point: &zeros }),
            b_quant: Some(QuantParams { zero_point: &weight.zeros }),
            ..GemmOptions::default()
        };
        let x = GemmInputA::Unpacked(NdTensorView::from_data([rows, self.input], quantized.as_slice()));
        let packed = GemmInputB::Packed(&weight.packed);
        INT8.with(|gemm| gemm.gemm(&mut sums, x, packed, options)).expect(FITS);
        out.par_chunks_exact_mut(output)
            .zip(sums.par_chunks_exact(output))
            .zip(&scales)
            .with_min_len(rows::BLOCK)
            .for_each(|((out, sums), scale)| rows::dequantize(sums, *scale, &weight.scales, self.bias, out));
    }
}

/// `out [rows, input] (+)= gradient [rows, output] W`: the gradient of a linear layer's input.
pub(crate) fn input_gradient(gradient: &[f32], weight: &[f32], input: usize, add: bool, out: &mut [f32]) {
    let output = weight.len() / input;
    let rows = out.len() / input;
    let left = GemmInputA::Unpacked(NdTensorView::from_data([rows, output], gradient));
    let right = GemmInputB::Unpacked(NdTensorView::from_data([output, input], weight));
    let options = GemmOptions { beta: if add { 1.0 } else { 0.0 }, ..GemmOptions::default() };
    F32.with(|gemm| gemm.gemm(out, left, right, options)).expect(FITS);
}

/// `out [output, input] += gradientᵀ x`: the gradient of a linear layer's weight.
pub(crate) fn add_weight_gradient(gradient: &[f32], x: &[f32], input: usize, out: &mut [f32]) {
    let output = out.len() / input;
    let rows = x.len() / input;
    let left = GemmInputA::Unpacked(NdTensorView::from_data([rows, output], gradient).transposed());
    let right = GemmInputB::Unpacked(NdTensorView::from_data([rows, input], x));
    let options = GemmOptions { beta: 1.0, ..GemmOptions::default() };
    F32.with(|gemm| gemm.gemm(out, left, right, options)).expect(FITS);
}
