//! The fused operations against the plain tensor operations, and against finite differences.

use candle_core::{Device, Tensor};

use super::{
    attention,
    product::{Int8Weight, Linear, Weight, pack},
    rows::{self, Activation, Dropout, Norm},
};
use crate::{
    Batch, BertConfig, Gradient, HiddenAct, Labels, Learner, Mode, MultiTaskModel, Parameters, SENTIMENTS, Seeded,
};

fn config(hidden: usize, heads: usize, dropout: f64, activation: HiddenAct) -> BertConfig {
    BertConfig {
        vocab_size: 60,
        hidden_size: hidden,
        num_hidden_layers: 2,
        num_attention_heads: heads,
        intermediate_size: 3 * hidden + 5,
        hidden_act: activation,
        hidden_dropout_prob: dropout,
        max_position_embeddings: 70,
        type_vocab_size: 2,
        initializer_range: 0.1,
        ..BertConfig::default()
    }
}

fn model(config: &BertConfig) -> MultiTaskModel {
    let labels = Labels {
        intents: (0..5).map(|index| index.to_string()).collect(),
        sentiments: SENTIMENTS.map(str::to_owned).to_vec(),
    };
    let parameters = Parameters::fresh(3, config.initializer_range, &Device::Cpu);
    let (model, _) = MultiTaskModel::new(parameters, config, &labels, &Device::Cpu).expect("a whole configuration");
    // Biases and norms away from 0 and 1, or mistakes in their gradients would hide.
    let mut generator = Seeded::new(9, 9);
    for (name, variable) in model.variables() {
        if name.ends_with("bias") || name.contains("LayerNorm") {
            let noise = generator.normals(variable.elem_count(), 0.1);
            let noise = Tensor::from_vec(noise, variable.shape(), &Device::Cpu).expect("as many numbers");
            variable.set(&(variable.as_tensor() + noise).expect("one shape")).expect("one shape");
        }
    }
    model
}

/// Texts of many lengths, two of them with context.
fn batch() -> Batch {
    let mut generator = Seeded::new(5, 5);
    let mut batch = Batch::default();
    for (length, own) in [(1, 1), (17, 17), (2, 2), (40, 9), (64, 64), (5, 3), (33, 33)] {
        let ids: Vec<u32> = (0..length).map(|_| generator.below(60) as u32).collect();
        batch.push(&ids, own);
    }
    batch
}

/// A loss that every output has a part in.
fn loss(output: &crate::Forward) -> Tensor {
    let weigh = |tensor: &Tensor, stream: u64| {
        let weights = Seeded::new(11, stream).normals(tensor.elem_count(), 1.0);
        let weights = Tensor::from_vec(weights, tensor.shape(), &Device::Cpu).expect("as many numbers");
        (tensor * weights).and_then(|product| product.sum_all()).expect("one shape")
    };
    let parts = [weigh(&output.embedding, 1), weigh(&output.intent_logits, 2), weigh(&output.sentiment_logits, 3)];
    ((&parts[0] + &parts[1]).expect("scalars") + &parts[2]).expect("scalars")
}

fn fused_gradients(learner: &mut Learner<'_>, seed: u64) -> (f64, Vec<(String, Vec<f32>)>) {
    learner.clear();
    let pass = learner.forward(batch(), seed).expect("a fitting batch");
    let loss = loss(&pass.output);
    let value = f64::from(loss.to_scalar::<f32>().expect("a scalar"));
    learner.backward(&loss, vec![pass]).expect("a differentiable loss");
    let mut found = Vec::new();
    learner.gradients().each(|name, gradient| {
        let values = match gradient {
            Gradient::Dense(values) => values.to_vec(),
            Gradient::Rows { values, .. } => values.to_vec(),
        };
        found.push((name.to_owned(), values));
    });
    (value, found)
}

#[test]
fn gradients_are_those_of_the_plain_operations() {
    for (hidden, heads, activation) in [
        (64, 4, HiddenAct::Gelu),
        (40, 2, HiddenAct::Gelu),
        (32, 2, HiddenAct::GeluApproximate),
        (48, 1, HiddenAct::Relu),
    ] {
        let model = model(&config(hidden, heads, 0.0, activation));
        let plain = model.forward(&batch(), Mode::Train(&mut Seeded::new(1, 1))).expect("a fitting batch");
        let plain_loss = loss(&plain);
        let store = plain_loss.backward().expect("a differentiable loss");
        let mut learner = Learner::new(&model).expect("weights on the CPU");
        // Twice: buffers that were used before change nothing.
        fused_gradients(&mut learner, 1);
        let (value, found) = fused_gradients(&mut learner, 1);
        let expected = f64::from(plain_loss.to_scalar::<f32>().expect("a scalar"));
        assert!((value - expected).abs() < 1e-3 * expected.abs().max(1.0), "loss {value} and {expected}");
        assert_eq!(found.len(), model.variables().len());
        for (name, fused) in found {
            let plain = store.get(&model.variables()[&name]).expect("every variable has a gradient");
            let plain: Vec<f32> = plain.flatten_all().and_then(|tensor| tensor.to_vec1()).expect("numbers");
            let size = plain.iter().fold(1e-3f32, |size, value| size.max(value.abs()));
            let worst = plain.iter().zip(&fused).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
            assert!(worst <= 2e-4 * size, "{name}: {worst} of {size} (hidden {hidden}, heads {heads})");
        }
    }
}

#[test]
fn serving_gives_what_the_plain_operations_give() {
    for (hidden, heads) in [(64, 4), (40, 2)] {
        let model = model(&config(hidden, heads, 0.1, HiddenAct::Gelu));
        let plain = model.forward(&batch(), Mode::Serve).expect("a fitting batch");
        for (row, output) in model.run(&batch()).expect("a fitting batch").iter().enumerate() {
            for (what, plain, fused) in [
                ("embedding", &plain.embedding, &output.embedding),
                ("intents", &plain.intent_logits, &output.intent_logits),
                ("sentiments", &plain.sentiment_logits, &output.sentiment_logits),
            ] {
                let plain: Vec<f32> = plain.get(row).and_then(|row| row.to_vec1()).expect("a row");
                let worst = plain.iter().zip(fused).map(|(a, b)| (a - b).abs()).fold(0f32, f32::max);
                assert!(plain.len() == fused.len() && worst <= 1e-5, "{what} of text {row}: {worst}");
            }
        }
    }
}

/// With dropout the plain operations draw other numbers, so the slope along a random direction is measured instead.
#[test]
fn gradients_with_dropout_are_slopes() {
    let model = model(&config(64, 4, 0.2, HiddenAct::Gelu));
    let mut learner = Learner::new(&model).expect("weights on the CPU");
    let (value, gradients) = fused_gradients(&mut learner, 7);
    assert_eq!(value, fused_gradients(&mut learner, 7).0, "one seed, one mask");
    assert_ne!(value, fused_gradients(&mut learner, 8).0, "another seed, another mask");
    for (name, gradient) in gradients {
        let variable = &model.variables()[&name];
        let start = variable.as_tensor().copy().expect("a copy");
        // Along the gradient itself the slope is the squared norm, far above rounding.
        let norm = gradient.iter().map(|g| f64::from(*g).powi(2)).sum::<f64>().sqrt();
        if name.ends_with("key.bias") {
            assert!(norm < 1e-3, "{name}: softmax does not see a key bias, but its gradient is {norm}");
            continue;
        }
        let direction: Vec<f32> = gradient.iter().map(|g| (f64::from(*g) / norm) as f32).collect();
        let direction = Tensor::from_vec(direction, variable.shape(), &Device::Cpu).expect("as many numbers");
        let mut at = |step: f64| {
            variable.set(&(&start + (&direction * step).expect("a scale")).expect("one shape")).expect("one shape");
            fused_gradients(&mut learner, 7).0
        };
        let step = 2e-2;
        // Five points, whose error is of the fourth order.
        let slope = (8.0 * (at(step) - at(-step)) - (at(2.0 * step) - at(-2.0 * step))) / (12.0 * step);
        variable.set(&start).expect("one shape");
        assert!((slope - norm).abs() <= 0.02 * norm + 0.02, "{name}: slope {slope}, gradient {norm}");
    }
}

/// The slope of `sum(weights * operation(x))` along each number of `x`, by central differences in 64 bits.
fn slopes(x: &[f32], weights: &[f32], operation: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
    let mut at: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
    let sum = |x: &[f64]| operation(x).iter().zip(weights).map(|(y, &weight)| y * f64::from(weight)).sum::<f64>();
    let step = 1e-5;
    let slope = |index: usize| {
        let start = at[index];
        at[index] = start + step;
        let above = sum(&at);
        at[index] = start - step;
        let below = sum(&at);
        at[index] = start;
        (above - below) / (2.0 * step)
    };
    (0..x.len()).map(slope).collect()
}

fn close(what: &str, gradient: &[f32], slopes: &[f64]) {
    let size = slopes.iter().fold(1f64, |size, slope| size.max(slope.abs()));
    let worst = gradient.iter().zip(slopes).map(|(g, slope)| (f64::from(*g) - slope).abs()).fold(0.0, f64::max);
    assert!(gradient.len() == slopes.len() && worst <= 1e-5 * size, "{what}: {worst} of {size}");
}

/// The error function by its series, exact to ten digits below 4.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..120 {
        term *= -x * x / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

#[test]
fn activations_and_norms_have_the_slopes_of_64_bits() {
    let mut generator = Seeded::new(4, 4);
    let (width, count) = (40, 5);
    let (x, weights) = (generator.normals(width * count, 1.3), generator.normals(width * count, 1.0));
    let tanh = |x: f64| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh());
    let gelu = |x: f64| 0.5 * x * (1.0 + erf(x / 2f64.sqrt()));
    for (activation, plain) in [(Activation::Gelu, &gelu as &dyn Fn(f64) -> f64), (Activation::GeluApproximate, &tanh)]
    {
        let mut gradient = weights.clone();
        rows::activation_backward(activation, &x, &mut gradient);
        close(&format!("{activation:?}"), &gradient, &slopes(&x, &weights, |x| x.iter().map(|&x| plain(x)).collect()));
    }

    let (scale, shift) = (generator.normals(width, 1.0), generator.normals(width, 1.0));
    let norm = |x: &[f64], scale: &[f64], shift: &[f64]| -> Vec<f64> {
        let row = |row: &[f64]| {
            let mean = row.iter().sum::<f64>() / width as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / width as f64;
            let normal = row.iter().map(|x| (x - mean) / (variance + 1e-12).sqrt());
            normal.zip(scale.iter().zip(shift)).map(|(x, (scale, shift))| x * scale + shift).collect::<Vec<f64>>()
        };
        x.chunks(width).flat_map(row).collect()
    };
    let wide = |values: &[f32]| -> Vec<f64> { values.iter().map(|&value| f64::from(value)).collect() };
    let (mut out, mut normal, mut inverse) = (vec![0f32; x.len()], vec![0f32; x.len()], vec![0f32; count]);
    let fused = Norm { weight: &scale, bias: &shift, epsilon: 1e-12 };
    let saved = Some((&mut normal[..], &mut inverse[..]));
    rows::norm_forward(fused, &x, None, Dropout::new(0.0, 1, 1), &mut out, saved);
    let (mut gradient, mut scale_gradient, mut shift_gradient) =
        (weights.clone(), vec![0f32; width], vec![0f32; width]);
    rows::norm_backward(&scale, &normal, &inverse, &mut gradient, &mut scale_gradient, &mut shift_gradient);
    let (x64, scale64, shift64) = (wide(&x), wide(&scale), wide(&shift));
    close("input of the norm", &gradient, &slopes(&x, &weights, |x| norm(x, &scale64, &shift64)));
    close("scale", &scale_gradient, &slopes(&scale, &weights, |scale| norm(&x64, scale, &shift64)));
    close("shift", &shift_gradient, &slopes(&shift, &weights, |shift| norm(&x64, &scale64, shift)));
}

fn softmax(row: &[f64]) -> Vec<f64> {
    let top = row.iter().copied().fold(f64::MIN, f64::max);
    let sum = row.iter().map(|x| (x - top).exp()).sum::<f64>();
    row.iter().map(|x| (x - top).exp() / sum).collect()
}

#[test]
fn attention_and_cross_entropy_have_the_slopes_of_64_bits() {
    let mut generator = Seeded::new(6, 6);
    let (shape, texts) = (attention::Shape { hidden: 24, heads: 2 }, [0..1, 1..6, 6..23]);
    let (tokens, head) = (23, 12);
    let (qkv, weights) = (generator.normals(tokens * 72, 1.0), generator.normals(tokens * 24, 1.0));
    let plain = |qkv: &[f64]| -> Vec<f64> {
        let mut out = vec![0f64; tokens * 24];
        for text in &texts {
            for at in (0..2).map(|index| index * head) {
                for query in text.clone() {
                    let of = |token: usize, part: usize| &qkv[token * 72 + part * 24 + at..][..head];
                    let score = |key: usize| of(query, 0).iter().zip(of(key, 1)).map(|(q, k)| q * k).sum::<f64>();
                    let scores: Vec<f64> = text.clone().map(|key| score(key) / (head as f64).sqrt()).collect();
                    for (key, share) in text.clone().zip(softmax(&scores)) {
                        let out = &mut out[query * 24 + at..][..head];
                        out.iter_mut().zip(of(key, 2)).for_each(|(out, value)| *out += share * value);
                    }
                }
            }
        }
        out
    };
    let mut kept = vec![0f32; texts.iter().map(|text| shape.probabilities(text.len())).sum()];
    let (mut out, mut gradient) = (vec![0f32; tokens * 24], vec![0f32; tokens * 72]);
    let off = Dropout::new(0.0, 1, 1);
    attention::forward(shape, &texts, &qkv, off, &mut out, Some(&mut kept));
    attention::backward(shape, &texts, &qkv, &kept, off, &weights, &mut gradient);
    close("attention", &gradient, &slopes(&qkv, &weights, plain));

    let (classes, targets) = (37, [3u32, 36, 0]);
    let logits = generator.normals(classes * targets.len(), 2.0);
    let mut gradient = logits.clone();
    rows::cross_entropy_rows(&mut gradient, &targets, 0.25);
    let plain = |logits: &[f64]| -> Vec<f64> {
        logits.chunks(classes).zip(targets).map(|(row, target)| -softmax(row)[target as usize].ln()).collect()
    };
    close("cross-entropy", &gradient, &slopes(&logits, &[0.25; 3], plain));
}

/// Uniform noise of one step in 127 has a relative size of about 1 %.
#[test]
fn eight_bits_lose_about_a_hundredth() {
    for (rows, input, output) in [(1, 256, 96), (7, 64, 32), (33, 256, 40), (64, 96, 128)] {
        let mut generator = Seeded::new(2, rows as u64);
        let weight = generator.normals(output * input, 0.1);
        let bias = generator.normals(output, 0.1);
        let mut x = generator.normals(rows * input, 1.0);
        // Rows of unlike sizes, some of them all positive.
        for (row, x) in x.chunks_mut(input).enumerate() {
            x.iter_mut().for_each(|x| *x = if row % 3 == 0 { x.abs() * 5.0 } else { *x / (row + 1) as f32 });
        }
        let (packed, eight) = (pack(&weight, output, input), Int8Weight::new(&weight, output, input));
        let run = |weight: Weight<'_>| {
            let mut out = vec![0f32; rows * output];
            Linear { weight, bias: &bias, input }.forward(&x, &mut out);
            out
        };
        let (exact, rough) = (run(Weight::Packed(&packed)), run(Weight::Int8(&eight)));
        for (row, (exact, rough)) in exact.chunks(output).zip(rough.chunks(output)).enumerate() {
            let size = |values: &mut dyn Iterator<Item = f32>| values.map(|value| value * value).sum::<f32>().sqrt();
            let error = size(&mut exact.iter().zip(rough).map(|(a, b)| a - b)) / size(&mut exact.iter().copied());
            assert!(error > 0.0 && error < 0.02, "row {row} of {rows}: {error}");
        }
    }
}
