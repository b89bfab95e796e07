//! Numbers that transformers and torch computed (`tests/golden/make_golden.py`), and parity with candle-transformers.

use std::{collections::HashMap, path::Path};

use candle_core::{DType, Device, Tensor};
use candle_transformers::models::bert::BertModel;
use serde_json::Value;
use yingda_models::{
    Batch, Forward, Gradients, Labels, Learner, Mode, ModelError, MultiTaskModel, Parameters, SENTIMENTS, Seeded,
    TextTokenizer, read_checkpoint, text::TextContract,
};
use yingda_train::{
    loss::{cross_entropy, info_nce},
    optimizer::{AdamW, AdamWSettings},
};

use crate::support::{golden, json, numbers};

const TOLERANCE: f64 = 1e-4;

fn labels() -> Labels {
    Labels {
        intents: (0..5).map(|index| format!("intent-{index}")).collect(),
        sentiments: SENTIMENTS.map(str::to_owned).to_vec(),
    }
}

fn config(folder: &Path) -> yingda_models::BertConfig {
    serde_json::from_slice(&std::fs::read(folder.join("config.json")).unwrap()).unwrap()
}

/// The tiny BERT with the heads that transformers' numbers were made with.
fn model(trainable: bool) -> MultiTaskModel {
    let folder = golden().join("tiny-bert");
    let mut weights = read_checkpoint(&folder).unwrap();
    weights.extend(candle_core::safetensors::load(golden().join("heads.safetensors"), &Device::Cpu).unwrap());
    let parameters = Parameters::new(weights, trainable, 1, 0.02, &Device::Cpu);
    let (model, report) = MultiTaskModel::new(parameters, &config(&folder), &labels(), &Device::Cpu).unwrap();
    assert_eq!(report.missing, Vec::<String>::new());
    assert_eq!(report.unexpected, ["pooler.dense.bias", "pooler.dense.weight"]);
    model
}

fn rows(ids: &Value, mask: &Value) -> Vec<Vec<u32>> {
    let count = |row: &Value| numbers(row).iter().filter(|&&one| one == 1.0).count();
    let ids = ids.as_array().unwrap().iter();
    ids.zip(mask.as_array().unwrap())
        .map(|(ids, mask)| numbers(ids).iter().take(count(mask)).map(|&id| id as u32).collect())
        .collect()
}

fn batch(expected: &Value) -> Batch {
    let rows = rows(&expected["input_ids"], &expected["attention_mask"]);
    Batch::new(&rows)
}

fn flat(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

#[track_caller]
fn close(what: &str, ours: &[f64], theirs: &[f64], tolerance: f64) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let worst = ours.iter().zip(theirs).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(worst <= tolerance, "{what}: largest difference {worst:e}");
}

/// Hidden states of the tokens; what stands on padding means nothing.
fn on_tokens(states: &[f64], mask: &[f64], hidden: usize) -> Vec<f64> {
    states.chunks(hidden).zip(mask).filter(|(_, mask)| **mask == 1.0).flat_map(|(state, _)| state.to_vec()).collect()
}

#[test]
fn hidden_states_embedding_and_logits_are_those_of_transformers() {
    let expected = json(&golden().join("expected.json"));
    let batch = batch(&expected);
    let mask = numbers(&expected["attention_mask"]);
    for trainable in [false, true] {
        let model = model(trainable);
        let mut generator = Seeded::new(1, 1);
        let mut mode = if trainable { Mode::Train(&mut generator) } else { Mode::Serve };
        let states = model.encoder().hidden_states(&batch, &mut mode).unwrap();
        let mut theirs = vec![&expected["embeddings_output"]];
        theirs.extend(expected["layer_outputs"].as_array().unwrap());
        assert_eq!(states.len(), theirs.len());
        for (layer, (ours, theirs)) in states.iter().zip(theirs).enumerate() {
            let (ours, theirs) = (on_tokens(&flat(ours), &mask, 32), on_tokens(&numbers(theirs), &mask, 32));
            close(&format!("hidden state {layer}, trainable {trainable}"), &ours, &theirs, TOLERANCE);
        }
        let last = on_tokens(&flat(&states[states.len() - 1]), &mask, 32);
        let fused: Vec<f64> = model.encoder().forward_fused(&batch).unwrap().into_iter().map(f64::from).collect();
        close("fused operations", &fused, &last, TOLERANCE);
        let output = model.forward(&batch, mode).unwrap();
        for (what, ours) in [
            ("pooled", &output.pooled),
            ("embedding", &output.embedding),
            ("intent_logits", &output.intent_logits),
            ("sentiment_logits", &output.sentiment_logits),
        ] {
            close(what, &flat(ours), &numbers(&expected[what]), TOLERANCE);
        }
    }
}

fn losses(output: &Forward, expected: &Value) -> [Tensor; 2] {
    let labels = |key: &str| -> Vec<Option<u32>> {
        numbers(&expected[key]).iter().map(|&label| (label >= 0.0).then_some(label as u32)).collect()
    };
    let weights: Vec<f32> = numbers(&expected["intent_class_weights"]).iter().map(|&weight| weight as f32).collect();
    [
        cross_entropy(&output.intent_logits, &labels("intent_targets"), &weights).unwrap().unwrap(),
        cross_entropy(&output.sentiment_logits, &labels("sentiment_targets"), &[1.0; 3]).unwrap().unwrap(),
    ]
}

fn scalar(tensor: &Tensor) -> f64 {
    f64::from(tensor.to_scalar::<f32>().unwrap())
}

#[test]
fn loss_gradient_norm_and_one_adamw_step_are_those_of_torch() {
    let expected = json(&golden().join("expected.json"));
    for fused in [true, false] {
        one_step_is_that_of_torch(&expected, fused);
    }
}

fn one_step_is_that_of_torch(expected: &Value, fused: bool) {
    let model = model(true);
    let mut learner = Learner::new(&model).unwrap();
    let mut run = || -> (Forward, Option<yingda_models::Pass>) {
        if fused {
            let pass = learner.forward(batch(expected), 1).unwrap();
            (pass.output.clone(), Some(pass))
        } else {
            (model.forward(&batch(expected), Mode::Train(&mut Seeded::new(1, 1))).unwrap(), None)
        }
    };
    let (output, pass) = run();
    let [intent, sentiment] = losses(&output, expected);
    let before = &expected["loss_before"];
    close("intent loss", &[scalar(&intent)], &numbers(&before["intent"]), TOLERANCE);
    close("sentiment loss", &[scalar(&sentiment)], &numbers(&before["sentiment"]), TOLERANCE);

    let settings = &expected["optimizer"];
    let setting = |key: &str| settings[key].as_f64().unwrap();
    let mut optimizer = AdamW::new(AdamWSettings {
        beta1: setting("beta1"),
        beta2: setting("beta2"),
        epsilon: setting("epsilon"),
        weight_decay: setting("weight_decay"),
        max_norm: setting("max_norm"),
        ..AdamWSettings::default()
    });
    let total = (intent + sentiment).unwrap();
    let mut plain;
    let gradients = match pass {
        Some(pass) => {
            learner.backward(&total, vec![pass]).unwrap();
            learner.gradients()
        }
        None => {
            plain = Gradients::of(&total, model.variables()).unwrap();
            &mut plain
        }
    };
    let norm = optimizer.step(model.variables(), gradients, setting("learning_rate")).unwrap();
    close("gradient norm", &[norm], &numbers(&expected["gradient_norm"]), 1e-3);

    let mut compared = 0;
    for parameter in expected["parameters_after"].as_array().unwrap() {
        if parameter["trained"] == false {
            continue;
        }
        let name = parameter["name"].as_str().unwrap();
        let values = flat(model.variables()[name].as_tensor());
        // Softmax cancels key biases: their true gradient is 0, and Adam makes a full step out of its rounding noise.
        let tolerance = if name.ends_with("key.bias") { 2e-3 } else { TOLERANCE };
        let first = numbers(&parameter["first"]);
        close(name, &values[..first.len()], &first, tolerance);
        // A step leaves rows of tokens that it did not see as they are; torch's decay pulls at them, too.
        let sparse = fused && name == yingda_models::WORDS;
        if !name.ends_with("key.bias") && !sparse {
            let squares: f64 = values.iter().map(|value| value * value).sum();
            // Sums over thousands of numbers add up their rounding.
            close(&format!("{name}: sum"), &[values.iter().sum()], &numbers(&parameter["sum"]), 5e-3);
            close(&format!("{name}: squares"), &[squares], &numbers(&parameter["sum_of_squares"]), 5e-3);
        }
        compared += 1;
    }
    assert_eq!(compared, model.variables().len());

    let output = model.forward(&batch(expected), Mode::Train(&mut Seeded::new(1, 1))).unwrap();
    let [intent, sentiment] = losses(&output, expected);
    let after = scalar(&(intent + sentiment).unwrap());
    close("loss after the step", &[after], &numbers(&expected["loss_after"]["total"]), 1e-3);
}

#[test]
fn contrastive_loss_is_that_of_torch() {
    let expected = &json(&golden().join("expected.json"))["contrastive"];
    let model = model(false);
    let embed = |side: &str| {
        let rows = rows(&expected[format!("{side}_input_ids")], &expected[format!("{side}_attention_mask")]);
        model.forward(&Batch::new(&rows), Mode::Serve).unwrap().embedding
    };
    let (left, right) = (embed("left"), embed("right"));
    close("left", &flat(&left), &numbers(&expected["left_embedding"]), TOLERANCE);
    let loss = info_nce(&left, &right, expected["temperature"].as_f64().unwrap()).unwrap();
    close("loss", &[scalar(&loss)], &numbers(&expected["loss"]), 1e-3);
}

#[test]
fn hidden_states_are_those_of_candle_transformers() {
    let folder = golden().join("tiny-bert");
    let expected = json(&golden().join("expected.json"));
    let batch = batch(&expected);
    let weights: HashMap<String, Tensor> = read_checkpoint(&folder).unwrap();
    let builder = candle_nn::VarBuilder::from_tensors(weights, DType::F32, &Device::Cpu);
    let stock = BertModel::load(builder, &config(&folder)).unwrap();
    let tensor = |key: &str, kind: DType| {
        let rows: Vec<Vec<f64>> = expected[key].as_array().unwrap().iter().map(numbers).collect();
        Tensor::new(rows, &Device::Cpu).unwrap().to_dtype(kind).unwrap()
    };
    let (ids, mask) = (tensor("input_ids", DType::U32), tensor("attention_mask", DType::F32));
    let theirs = stock.forward(&ids, &ids.zeros_like().unwrap(), Some(&mask)).unwrap();
    let ours = model(false).encoder().forward(&batch, &mut Mode::Serve).unwrap();
    let mask = flat(&mask);
    close("hidden states", &on_tokens(&flat(&ours), &mask, 32), &on_tokens(&flat(&theirs), &mask, 32), TOLERANCE);
}

#[test]
fn a_text_alone_equals_the_same_text_in_a_batch() {
    let expected = json(&golden().join("expected.json"));
    let rows = rows(&expected["input_ids"], &expected["attention_mask"]);
    let model = model(false);
    let run = |rows: &[Vec<u32>]| -> Vec<Vec<f64>> {
        let outputs = model.run(&Batch::new(rows)).unwrap().into_iter();
        outputs
            .map(|output| {
                let all = output.embedding.iter().chain(&output.intent_logits).chain(&output.sentiment_logits);
                all.map(|&number| f64::from(number)).collect()
            })
            .collect()
    };
    let together = run(&rows);
    for (row, together) in rows.iter().zip(&together) {
        close("alone", &run(std::slice::from_ref(row))[0], together, 1e-5);
    }
}

#[test]
fn token_ids_are_those_of_transformers() {
    let golden = golden();
    let expected = json(&golden.join("tokens.json"));
    let folder = golden.join("tiny-bert");
    let only_vocabulary = tempfile::tempdir().unwrap();
    std::fs::copy(folder.join("vocab.txt"), only_vocabulary.path().join("vocab.txt")).unwrap();
    for (key, folder) in [("from_tokenizer_json", folder.as_path()), ("from_vocab_txt", only_vocabulary.path())] {
        let tokenizer = TextTokenizer::load(folder, TextContract::default(), 64).unwrap();
        let texts = expected[key].as_array().unwrap();
        assert!(texts.len() >= 30);
        for text in texts {
            let raw = text["text"].as_str().unwrap();
            let full = text.get("full_ids").unwrap_or(&text["ids"]);
            let theirs: Vec<u32> = numbers(full).iter().map(|&id| id as u32).collect();
            let ours = tokenizer.encode_model_text(raw).unwrap();
            if theirs.len() <= 64 {
                assert_eq!(ours.ids, theirs, "{key}: {raw:?}");
                assert!(!ours.truncated);
            } else {
                // We keep the beginning and the end of a long text.
                assert_eq!(ours.ids[..32], theirs[..32], "{key}: {raw:?}");
                assert_eq!(ours.ids[32..], theirs[theirs.len() - 32..], "{key}: {raw:?}");
                assert!(ours.truncated);
            }
        }
    }
}

#[test]
fn base_folders_of_every_kind_load_alike() {
    let folder = golden().join("tiny-bert");
    let weights = read_checkpoint(&folder).unwrap();
    let reference = MultiTaskModel::from_base(&folder, &labels(), None, 9, &Device::Cpu).unwrap();
    assert_eq!(reference.1.missing, ["intent.weight", "intent.bias", "sentiment.weight", "sentiment.bias"]);

    let old_names = tempfile::tempdir().unwrap();
    std::fs::copy(folder.join("config.json"), old_names.path().join("config.json")).unwrap();
    let renamed: HashMap<String, Tensor> = weights
        .into_iter()
        .map(|(name, tensor)| {
            let name = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
            (format!("bert.{name}"), tensor.to_dtype(DType::F64).unwrap())
        })
        .collect();
    candle_core::safetensors::save(&renamed, old_names.path().join("model.safetensors")).unwrap();
    let other = MultiTaskModel::from_base(old_names.path(), &labels(), None, 9, &Device::Cpu).unwrap();
    for (name, tensor) in reference.0.weights() {
        close(name, &flat(tensor), &flat(&other.0.weights()[name]), 0.0);
    }

    let mut cut = renamed;
    cut.remove("bert.encoder.layer.1.output.dense.weight");
    candle_core::safetensors::save(&cut, old_names.path().join("model.safetensors")).unwrap();
    let Err(ModelError::Weights { message, .. }) =
        MultiTaskModel::from_base(old_names.path(), &labels(), None, 9, &Device::Cpu)
    else {
        panic!("an encoder weight is missing and nothing was said");
    };
    assert!(message.contains("encoder.layer.1.output.dense.weight"), "{message}");
}

#[test]
fn a_pickled_checkpoint_loads_like_safetensors() {
    // Written by torch.save: see make_golden.py.
    let folder = golden().join("tiny-bert");
    let pickle = folder.join("pytorch_model.bin");
    let apart = tempfile::tempdir().unwrap();
    std::fs::copy(&pickle, apart.path().join("pytorch_model.bin")).unwrap();
    let (theirs, ours) = (read_checkpoint(&folder).unwrap(), read_checkpoint(apart.path()).unwrap());
    assert_eq!(theirs.len(), ours.len());
    for (name, tensor) in &theirs {
        close(name, &flat(&ours[name]), &flat(tensor), 0.0);
    }
}
