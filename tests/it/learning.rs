//! That training trains: every variable moves, forty rows can be learnt by heart, a resumed run ends where an uninterrupted
//! one does, and the same command gives the same model.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use candle_core::Device;
use clap::Parser as _;
use yingda_datasets::{ColumnMap, load};
use yingda_models::{
    Batch, BertConfig, Gradient, HiddenAct, Labels, Learner, Mode, ModelFolder, MultiTaskModel, Parameters, Precision,
    SENTIMENTS, Seeded, ServingPrecision,
};
use yingda_train::{
    TrainError,
    examples::is_labelled,
    export::export,
    fit::{FitConfig, FitSummary, check_resumed, fit},
    loss::cross_entropy,
    optimizer::{AdamW, AdamWSettings},
    pretrain::{PretrainConfig, PretrainSummary, pretrain},
    tokenizer::{TokenizerFlags, tokenizer},
};

fn tiny(labels: usize) -> (MultiTaskModel, Labels) {
    let config = BertConfig {
        vocab_size: 50,
        hidden_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 32,
        hidden_act: HiddenAct::Gelu,
        hidden_dropout_prob: 0.1,
        max_position_embeddings: 16,
        type_vocab_size: 2,
        initializer_range: 0.1,
        ..BertConfig::default()
    };
    let labels = Labels {
        intents: (0..labels).map(|label| label.to_string()).collect(),
        sentiments: SENTIMENTS.map(str::to_owned).to_vec(),
    };
    let (model, _) =
        MultiTaskModel::new(Parameters::fresh(3, 0.1, &Device::Cpu), &config, &labels, &Device::Cpu).unwrap();
    (model, labels)
}

#[test]
fn every_variable_gets_a_gradient_and_moves() {
    let (model, _) = tiny(4);
    // Every position, token and segment row that exists is used once, so that no row is left out by chance.
    let rows: Vec<Vec<u32>> = (0..4).map(|row| (0..16).map(|column| (row * 13 + column * 3) % 50).collect()).collect();
    let mut learner = Learner::new(&model).unwrap();
    // Both segments, as with a context.
    let mut batch = Batch::default();
    rows.iter().for_each(|row| batch.push(row, 12));
    let pass = learner.forward(batch, 1).unwrap();
    let output = &pass.output;
    let intent = cross_entropy(&output.intent_logits, &[Some(0), Some(1), Some(2), Some(3)], &[1.0; 4]);
    let sentiment = cross_entropy(&output.sentiment_logits, &[Some(0), Some(1), Some(2), None], &[1.0; 3]);
    let loss = (intent.unwrap().unwrap() + sentiment.unwrap().unwrap()).unwrap();
    learner.backward(&loss, vec![pass]).unwrap();
    let values = |name: &str| model.variables()[name].flatten_all().unwrap().to_vec1::<f32>().unwrap();
    let before: Vec<(String, Vec<f32>)> = model.variables().keys().map(|name| (name.clone(), values(name))).collect();
    let mut sizes = std::collections::BTreeMap::new();
    learner.gradients().each(|name, gradient| {
        let (Gradient::Dense(values) | Gradient::Rows { values, .. }) = gradient;
        sizes.insert(name.to_owned(), values.iter().map(|value| value * value).sum::<f32>());
    });
    for name in model.variables().keys() {
        let size = sizes.get(name).unwrap_or_else(|| panic!("{name} has no gradient"));
        // Softmax cancels key biases: their gradient is 0 by mathematics.
        assert!(*size > 1e-12 || name.ends_with("key.bias"), "{name} has gradient 0");
    }
    AdamW::new(AdamWSettings::default()).step(model.variables(), learner.gradients(), 1e-2).unwrap();
    for (name, before) in before {
        assert!(values(&name) != before || name.ends_with("key.bias"), "{name} did not move");
    }
}

#[test]
fn forty_rows_are_learnt_by_heart() {
    let (model, _) = tiny(5);
    let mut generator = Seeded::new(5, 1);
    let rows: Vec<Vec<u32>> =
        (0..40).map(|_| (0..4 + generator.below(10)).map(|_| 1 + generator.below(49) as u32).collect()).collect();
    let intents: Vec<Option<u32>> = (0..40).map(|_| Some(generator.below(5) as u32)).collect();
    let sentiments: Vec<Option<u32>> = (0..40).map(|_| Some(generator.below(3) as u32)).collect();
    let mut learner = Learner::new(&model).unwrap();
    let mut optimizer = AdamW::new(AdamWSettings { weight_decay: 0.0, ..AdamWSettings::default() });
    for step in 0..300 {
        learner.clear();
        let pass = learner.forward(Batch::new(&rows), 100 + step).unwrap();
        let intent = cross_entropy(&pass.output.intent_logits, &intents, &[1.0; 5]).unwrap().unwrap();
        let sentiment = cross_entropy(&pass.output.sentiment_logits, &sentiments, &[1.0; 3]).unwrap().unwrap();
        learner.backward(&(intent + sentiment).unwrap(), vec![pass]).unwrap();
        optimizer.step(model.variables(), learner.gradients(), 5e-3).unwrap();
    }
    let output = model.forward(&Batch::new(&rows), Mode::Serve).unwrap();
    let said = |logits: &candle_core::Tensor| -> Vec<Option<u32>> {
        logits.argmax(1).unwrap().to_vec1::<u32>().unwrap().into_iter().map(Some).collect()
    };
    assert_eq!(said(&output.intent_logits), intents);
    assert_eq!(said(&output.sentiment_logits), sentiments);
}

/// `fit` as it is called on the command line.
#[derive(clap::Parser)]
struct Flags {
    #[command(flatten)]
    config: FitConfig,
    #[arg(long)]
    resume: bool,
}

pub(crate) fn small_fit(data: &Path, more: &[&str]) -> FitConfig {
    let mut flags = vec!["fit", "--data", data.to_str().unwrap(), "--batch-size", "8"];
    if !more.contains(&"--epochs") {
        flags.extend(["--epochs", "3"]);
    }
    flags.extend(["--hidden", "16", "--layers", "1", "--heads", "2", "--max-tokens", "24", "--learning-rate", "3e-3"]);
    flags.extend(more);
    Flags::parse_from(flags).config
}

/// Sixty sessions about three things, in our own words.
pub(crate) fn write_chats(path: &Path) {
    let subjects = ["外套", "台灯", "耳机", "水杯", "鞋子", "书包", "毛巾", "锅", "椅子", "手表"];
    let mut text = String::from("session_id,turn,role,text,intent,sentiment\n");
    for session in 0..60 {
        let subject = subjects[session % 10];
        let (ask, intent, sentiment) = match session % 3 {
            0 => (format!("{subject}什么时候发货呀第{session}次问了"), "催发货", "negative"),
            1 => (format!("想退掉{subject}怎么操作{session}"), "退货", "neutral"),
            _ => (format!("谢谢{subject}收到啦很喜欢{session}"), "致谢", "positive"),
        };
        text += &format!("s{session},0,user,{ask},{intent},{sentiment}\ns{session},1,agent,好的请稍等,,\n");
    }
    std::fs::write(path, text).unwrap();
}

fn run(config: &FitConfig, out: &Path) -> Result<FitSummary, TrainError> {
    fit(config, out, false, &AtomicBool::new(false))
}

/// What would make a score better than it will be is refused or left out, and nothing is written before all can be read.
#[test]
fn what_a_model_is_judged_by_is_not_what_it_learnt() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let data = at("chats.csv");
    write_chats(&data);
    let named = |path: &Path| path.to_str().unwrap().to_owned();
    let refused = |more: &[&str]| {
        let error = run(&small_fit(&data, more), &at("refused")).unwrap_err();
        assert_eq!(error.exit_code(), 2);
        assert!(!at("refused").exists(), "{error}");
        error.to_string()
    };
    let same = refused(&["--test", &named(&data)]);
    assert!(same.contains("--test has 60 messages of --data") && same.contains("chats.csv:"), "{same}");
    for (flags, said) in [
        (&["--max-norm", "0"][..], "--max-norm is 0"),
        (&["--class-weight-power", "nan"], "--class-weight-power is NaN"),
        (&["--precision", "95"], "--precision is 95"),
        (&["--validation-share", "0"], "validation"),
    ] {
        let error = refused(flags);
        assert!(error.contains(said), "{flags:?}: {error}");
    }
    let shape = |flags: &[&str]| {
        let mut config = small_fit(&data, &[]);
        (config.hidden, config.heads) = (flags[0].parse().unwrap(), flags[1].parse().unwrap());
        run(&config, &at("refused")).unwrap_err().to_string()
    };
    assert!(shape(&["0", "2"]).contains("at least 1") && shape(&["16", "3"]).contains("shared out evenly"));

    // Rare intents are rare everywhere, and the model remembers what became of them.
    let test = at("test.csv");
    let rows = "session_id,turn,role,text,intent,sentiment\nt1,0,user,我要换一个蓝色的杯子可以吗,换色,neutral\n\
                t2,0,user,请问帽子几号能发出来,催发货,negative\n";
    std::fs::write(&test, rows).unwrap();
    let rare = "r1,0,user,想把买的毛衣换成红色的行不行,换色,neutral\nr1,1,agent,可以,,\n";
    std::fs::write(&data, std::fs::read_to_string(&data).unwrap() + rare).unwrap();

    // Wordings that are asked in validation are not learnt.
    let asked = load(std::slice::from_ref(&data), &ColumnMap::for_chats::<&str>(&[]).unwrap()).unwrap();
    let asked: Vec<String> = asked.messages().unwrap().into_iter().filter(is_labelled).map(|row| row.text).collect();
    let knowledge = at("knowledge.jsonl");
    let entry = serde_json::json!({ "id": "a", "question": "杯子能换颜色吗", "answer": "可以", "intent": "换色",
        "similar_questions": asked });
    std::fs::write(&knowledge, format!("{entry}\n")).unwrap();
    let out = at("out");
    let flags = ["--min-class", "5", "--test", &named(&test), "--knowledge", &named(&knowledge)];
    let summary = run(&small_fit(&data, &flags), &out).unwrap();
    let settings = ModelFolder::open(&summary.model, &Device::Cpu, false).unwrap().settings;
    assert_eq!(settings.labels.intents, ["OTHER", "催发货", "致谢", "退货"]);
    let folded = settings.folded.unwrap();
    assert_eq!((folded.name("换色"), folded.name("退货")), ("OTHER", "退货"));
    let texts = |name: &str| -> BTreeSet<String> {
        let file = out.join(format!("splits/{name}.parquet"));
        let chats = load(&[file], &ColumnMap::for_chats::<&str>(&[]).unwrap()).unwrap();
        chats.messages().unwrap().into_iter().filter(is_labelled).map(|message| message.text).collect()
    };
    let (wordings, validation) = (texts("knowledge"), texts("validation"));
    assert!(wordings.len() > 10 && !validation.is_empty() && wordings.is_disjoint(&validation), "{wordings:?}");
    assert_eq!(summary.test.intent.as_ref().unwrap().rows, 2);

    // A base is trained with the dropout that is asked for, and goes on with what it began with.
    let base = named(&summary.model);
    let mut config = small_fit(&data, &[]);
    (config.base, config.dropout, config.learning_rate) = (Some(base), Some(0.4), Some(1e-4));
    let tuned = run(&config, &at("tuned")).unwrap();
    let tuned = ModelFolder::open(&tuned.model, &Device::Cpu, false).unwrap();
    assert_eq!(tuned.model.encoder().config().hidden_dropout_prob, 0.4);
    check_resumed(&config, &["dropout".into(), "epochs".into()], &at("tuned")).unwrap();
    let other = FitConfig { epochs: 40, dropout: Some(0.1), ..config };
    let error = check_resumed(&other, &["dropout".into(), "epochs".into()], &at("tuned")).unwrap_err().to_string();
    assert!(error.contains("leave --dropout, --epochs out"), "{error}");
}

fn weights(out: &Path) -> Vec<u8> {
    std::fs::read(out.join("model/model.safetensors")).unwrap()
}

/// Runs `work` (with whether it resumes, and the flag that stops it): stopped before the first step, then three times in the middle
/// of whatever step it has reached, until it is done.
fn stopped_three_times<T>(work: impl Fn(bool, &AtomicBool) -> Result<T, TrainError> + Sync) {
    let interrupted = |error: &TrainError| {
        matches!(error, TrainError::Interrupted { .. } | TrainError::PretrainingInterrupted { .. })
    };
    let stop = AtomicBool::new(true);
    let mut stops = 0;
    assert!(work(false, &stop).is_err_and(|error| interrupted(&error)));
    loop {
        stop.store(false, Ordering::Relaxed);
        let finished = std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(std::time::Duration::from_millis(150));
                stop.store(stops < 3, Ordering::Relaxed);
            });
            work(true, &stop).map(drop)
        });
        match finished {
            Ok(()) => break,
            Err(error) if interrupted(&error) => stops += 1,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn a_resumed_run_equals_an_uninterrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("chats.csv");
    write_chats(&data);
    let config = small_fit(&data, &["--epochs", "4", "--average-epochs", "2"]);
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    run(&config, &whole).unwrap();

    stopped_three_times(|resume, stop| fit(&config, &parts, resume, stop));
    assert_eq!(weights(&whole), weights(&parts));
    let metrics = |out: &Path| std::fs::read_to_string(out.join("metrics.jsonl")).unwrap().lines().count();
    assert_eq!(metrics(&whole), metrics(&parts));
}

/// `pretrain` as it is called on the command line.
#[derive(clap::Parser)]
struct PretrainFlags {
    #[command(flatten)]
    config: PretrainConfig,
}

/// Texts and pairs of our own, and the settings of a tiny base.
pub(crate) fn small_pretraining(folder: &Path, more: &[&str]) -> PretrainConfig {
    let things = ["外套", "台灯", "耳机", "水杯", "鞋子", "书包", "毛巾", "铁锅", "椅子", "手表"];
    let (mut texts, mut pairs) = (String::new(), String::from("left\tright\tlabel\n"));
    for round in 0..60 {
        for thing in things {
            texts += &format!("我买的{thing}什么时候发货，已经等了{round}天了😡\n");
            pairs += &format!(
                "{thing}{round}何时发货\t{thing}{round}多久发出\t1\n{thing}{round}何时发货\t{thing}{round}怎么退\t0\n"
            );
            pairs += &format!("{thing}能换{round}码吗\t{thing}能开{round}张发票吗\t0\n");
        }
    }
    let mut chats = String::new();
    for (session, thing) in things.iter().enumerate() {
        let said =
            [("user", format!("{thing}还没发货")), ("agent", "请问订单号是多少".into()), ("user", "不记得了".into())];
        for (turn, (role, text)) in said.into_iter().enumerate() {
            chats += &format!(
                "{}\n",
                serde_json::json!({"session_id": session.to_string(), "turn": turn, "role": role, "text": text})
            );
        }
    }
    let (text, pair, chat) = (folder.join("texts.txt"), folder.join("pairs.tsv"), folder.join("turns.jsonl"));
    std::fs::write(&text, texts).unwrap();
    std::fs::write(&pair, pairs).unwrap();
    std::fs::write(&chat, chats).unwrap();
    let mut flags = vec!["pretrain", "--text", text.to_str().unwrap(), "--pairs", pair.to_str().unwrap()];
    flags.extend(["--chats", chat.to_str().unwrap()]);
    flags.extend(["--epochs", "2", "--pair-epochs", "2", "--step-tokens", "256", "--step-pairs", "16"]);
    flags.extend(["--pair-text-tokens", "128", "--max-tokens", "32", "--positions", "64", "--checkpoint-every", "30"]);
    if !more.contains(&"--base") {
        flags.extend(["--hidden", "16", "--layers", "1", "--heads", "2"]);
    }
    flags.extend(more);
    PretrainFlags::parse_from(flags).config
}

fn base(config: &PretrainConfig, out: &Path) -> PretrainSummary {
    pretrain(config, out, false, &AtomicBool::new(false)).unwrap()
}

#[test]
fn a_resumed_pretraining_equals_an_uninterrupted_one_and_learns() {
    let folder = tempfile::tempdir().unwrap();
    let config = small_pretraining(folder.path(), &["--learning-rate", "3e-3", "--pair-learning-rate", "2e-3"]);
    let (whole, parts) = (folder.path().join("whole"), folder.path().join("parts"));
    let summary = base(&config, &whole);
    stopped_three_times(|resume, stop| pretrain(&config, &parts, resume, stop));
    assert_eq!(weights(&whole), weights(&parts));
    let metrics = |out: &Path| std::fs::read_to_string(out.join("metrics.jsonl")).unwrap().lines().count();
    assert_eq!(metrics(&whole), metrics(&parts));
    // A guess among all entries costs 8.3 nats. Pairs that mean the same share thing and number.
    assert!(summary.masked_loss.unwrap() < 4.5 && summary.pair_area.unwrap() > 0.9, "{summary:?}");
}

#[test]
fn pretraining_goes_on_with_the_head_that_a_base_keeps() {
    let folder = tempfile::tempdir().unwrap();
    let learnt = base(&small_pretraining(folder.path(), &["--learning-rate", "3e-3"]), &folder.path().join("learnt"));
    let flags = ["--base", learnt.model.to_str().unwrap()];
    let nothing = PretrainConfig { epochs: 0.0, pair_epochs: 0.0, ..small_pretraining(folder.path(), &flags) };
    let loss = |out: &str| base(&nothing, &folder.path().join(out)).masked_loss.unwrap();
    let before = learnt.masked_loss.unwrap();
    // Half precision changes a little.
    let after = loss("after");
    assert!((after - before).abs() < 0.02, "{after} after {before}");

    // A base without one is taken, too, and knows nothing of hidden tokens.
    let weights = learnt.model.join("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&weights, &Device::Cpu).unwrap();
    tensors.retain(|name, _| !name.starts_with("cls."));
    candle_core::safetensors::save(&tensors, &weights).unwrap();
    let anew = loss("anew");
    assert!(anew > before + 1.0, "{anew} after {before}");
}

#[test]
fn a_base_keeps_what_it_knows_when_it_gets_another_vocabulary() {
    let folder = tempfile::tempdir().unwrap();
    let old = base(&small_pretraining(folder.path(), &[]), &folder.path().join("old")).model;
    let text = folder.path().join("more.txt");
    std::fs::write(&text, "龘靐\n".repeat(20)).unwrap();
    let made = folder.path().join("vocabulary");
    let flags = TokenizerFlags {
        text: vec![text],
        pairs: vec![],
        chats: vec![],
        least_count: 8,
        out: made.clone(),
        json: false,
    };
    tokenizer(&flags).unwrap();
    let flags = ["--base", old.to_str().unwrap(), "--tokenizer", made.to_str().unwrap()];
    let config = small_pretraining(folder.path(), &flags);
    let config = PretrainConfig { epochs: 0.0, pair_epochs: 0.0, ..config };
    let new = base(&config, &folder.path().join("new")).model;
    let tables = [&old, &new].map(|model| {
        let weights = candle_core::safetensors::load(model.join("model.safetensors"), &Device::Cpu).unwrap();
        let table = weights[yingda_models::WORDS].to_dtype(candle_core::DType::F32).unwrap();
        let vocabulary = yingda_models::TextTokenizer::load(model, Default::default(), 32).unwrap().vocabulary();
        (vocabulary, table.to_vec2::<f32>().unwrap())
    });
    let row = |side: usize, entry: &str| tables[side].0.get(entry).map(|&id| tables[side].1[id as usize].clone());
    for known in ["[CLS]", "货", "😡", "##7"] {
        assert!(row(0, known).is_some() && row(0, known) == row(1, known), "{known}");
    }
    assert!(row(0, "龘").is_none() && row(1, "龘").is_some_and(|row| row.iter().any(|value| *value != 0.0)));
    // Its card goes on with that of the base, so that it names all that was ever learnt from.
    let card = std::fs::read_to_string(new.join("README.md")).unwrap();
    let (now, before) = card.split_once("\n## Before that\n").unwrap();
    assert!(
        now.contains("pretrain`: 1 layers")
            && now.contains("Nothing was learnt in this run; 0 steps")
            && now.contains("\n## Sources\n"),
        "{now}"
    );
    assert!(before.contains("language modelling with whole words, then contrastive training"), "{before}");
    assert!(before.contains("\n### Sources\n") && before.contains("| turns.jsonl | 30 |"), "{before}");
}

#[test]
fn the_same_command_gives_the_same_model_and_another_seed_another() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("chats.csv");
    write_chats(&data);
    let out = |name: &str| folder.path().join(name);
    run(&small_fit(&data, &[]), &out("a")).unwrap();
    run(&small_fit(&data, &[]), &out("b")).unwrap();
    run(&small_fit(&data, &["--seed", "7"]), &out("c")).unwrap();
    assert_eq!(weights(&out("a")), weights(&out("b")));
    assert_ne!(weights(&out("a")), weights(&out("c")));
}

#[test]
fn a_run_leaves_what_it_promises_and_its_model_opens() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("chats.csv");
    write_chats(&data);
    let out = folder.path().join("run");
    let summary = run(&small_fit(&data, &["--epochs", "6"]), &out).unwrap();
    for file in [
        "config.json",
        "metrics.jsonl",
        "splits/train.parquet",
        "splits/validation.parquet",
        "splits/test.parquet",
        "test/metrics.json",
        "test/predictions.parquet",
        "test/errors.jsonl",
        "model/README.md",
        "model/yingda.json",
    ] {
        assert!(out.join(file).exists(), "{file} is missing");
    }
    let opened = ModelFolder::open(&summary.model, &Device::Cpu, false).unwrap();
    assert!(opened.report.missing.is_empty() && opened.report.unexpected.is_empty());
    let said = opened.predict(&["台灯什么时候发货呀", "想退掉锅怎么操作"]).unwrap();
    for prediction in said {
        assert!((prediction.intents.iter().sum::<f32>() - 1.0).abs() < 1e-4);
        assert!((prediction.embedding.iter().map(|x| x * x).sum::<f32>() - 1.0).abs() < 1e-4);
    }

    let lexical = opened.model.lexical().unwrap();
    assert!(lexical.heads()[0].is_some() && !lexical.keys().is_empty());
    let alone = folder.path().join("alone");
    run(&small_fit(&data, &["--epochs", "6", "--no-lexical"]), &alone).unwrap();
    let alone = ModelFolder::open(&alone.join("model"), &Device::Cpu, false).unwrap();
    assert!(alone.model.lexical().is_none());
    // What follows training leaves the encoder as it is.
    let text = ["台灯什么时候发货呀"];
    assert_eq!(opened.predict(&text).unwrap()[0].embedding, alone.predict(&text).unwrap()[0].embedding);

    let refused = run(&small_fit(&data, &[]), &out).unwrap_err().to_string();
    assert!(refused.contains("is not empty"), "{refused}");

    let scores = yingda_train::eval::eval(
        &summary.model,
        std::slice::from_ref(&data),
        &yingda_datasets::ColumnMap::default(),
        &folder.path().join("eval"),
        "cpu",
    )
    .unwrap();
    assert_eq!(scores.intent.unwrap().rows, 60);

    let half = folder.path().join("half");
    let exported = export(&summary.model, &half, Precision::F16, ServingPrecision::F32).unwrap();
    assert!(exported.bytes_after < exported.bytes_before * 6 / 10, "{exported:?}");
    assert!(exported.probability_difference < 0.01 && exported.least_cosine > 0.999, "{exported:?}");
    let eight = folder.path().join("eight");
    let exported = export(&summary.model, &eight, Precision::F16, ServingPrecision::Int8).unwrap();
    assert!(exported.probability_difference > 0.0, "8 bits are served: {exported:?}");
    assert!(exported.probability_difference < 0.05 && exported.least_cosine > 0.99, "{exported:?}");
}
