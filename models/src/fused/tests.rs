//! The fused operations against the plain tensor operations, and against finite differences.

use candle_core::{Device, Tensor};

use super::product::{Int8Weight, Linear, Weight, pack};
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
